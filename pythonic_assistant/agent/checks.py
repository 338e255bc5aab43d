"""What makes a check worth running, and the checks that the assistant adds by itself.

A check that cannot fail proves nothing, so its code is read before it is run.
"""

from __future__ import annotations

import ast
import builtins
import re
import symtable
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set

from pythonic_assistant.agent.schemas import Check

_ENDINGS = "png|jpe?g|svg|pdf|csv|tsv|xlsx|parquet|json|txt|md|html|zip"
_FILE_IN_ANSWER = re.compile(rf"`([^`\n]+\.(?:{_ENDINGS}))`|\]\(([^)\s]+\.(?:{_ENDINGS}))\)", re.IGNORECASE)
"""Files that an answer hands over: in backticks, as the prompt asks, or as the target of a link. Bare words
are left alone, because names of files stand in data and in examples too."""

ANSWER = "ANSWER"
"""The variable in which a check finds the text of the answer."""
_REACHED = "_asserts_reached"

_PICTURE = """\
from PIL import Image
with Image.open({name!r}) as image:
    image.load()
    assert min(image.size) > 1, image.size
"""
_JSON = """\
import json, pathlib
text = pathlib.Path({name!r}).read_text()
json.loads(text)
assert text
"""
_OPENERS = {
    ".png": _PICTURE,
    ".jpg": _PICTURE,
    ".jpeg": _PICTURE,
    ".csv": "import pandas\nassert len(pandas.read_csv({name!r}).columns) > 0\n",
    ".tsv": "import pandas\nassert len(pandas.read_csv({name!r}, sep='\\t').columns) > 0\n",
    ".xlsx": "import openpyxl\nassert openpyxl.load_workbook({name!r}, read_only=True).sheetnames\n",
    ".parquet": "import pandas\nassert len(pandas.read_parquet({name!r}).columns) > 0\n",
    ".json": _JSON,
    ".zip": "import zipfile\nassert zipfile.ZipFile({name!r}).testzip() is None\n",
}
_ANY = "import pathlib\nassert pathlib.Path({name!r}).stat().st_size > 0, 'the file is empty'\n"


def problem_of(check: Check) -> str | None:
    """Say why a check's code could not fail, or return None when it could.

    It has to parse, and to assert something about data, outside of any `try` that would swallow the failure.
    What cannot be read from the code, such as an assert that is never reached, shows when it runs.
    """
    try:
        tree = ast.parse(check.code)
        compile(tree, "<check>", "exec", dont_inherit=True)  # finds what the grammar alone does not
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return f'The check "{check.claim}" is not Python: {error}.'
    asserts = list(_asserts(tree, guarded=False))
    if not asserts:
        return f'The check "{check.claim}" has no assert.'
    if any(guarded for _, guarded in asserts):
        return f'The check "{check.claim}" asserts inside of try, so its failure could be swallowed.'
    if not any(_is_about_data(node.test) for node, _ in asserts):
        return f'The check "{check.claim}" asserts nothing about data, so it cannot fail.'
    return None


def _asserts(node: ast.AST, *, guarded: bool) -> Iterator[tuple[ast.Assert, bool]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Assert):
            yield child, guarded
        inside = guarded or (isinstance(child, (ast.Try, ast.TryStar)) and bool(child.handlers))
        yield from _asserts(child, guarded=inside)


def _is_about_data(test: ast.expr) -> bool:
    """Whether a condition uses a name that is neither the answer's own text nor a built-in."""
    names = {part.id for part in ast.walk(test) if isinstance(part, ast.Name)}
    return bool(names - {ANSWER} - (set(dir(builtins)) - {"open"}))


def imports_of(codes: Iterable[str], importable: Set[str]) -> dict[str, str]:
    """Return the import of each name that code of the work imported from a library, by the name.

    Models forget to repeat an import in a check. Modules that the work itself wrote are not among them.
    """
    found: dict[str, str] = {}
    for code in codes:
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    if alias.name.partition(".")[0] in importable:
                        name = alias.asname or alias.name.partition(".")[0]
                        found[name] = ast.unparse(ast.Import(names=[alias]))
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                module = node.module or ""
                if module.partition(".")[0] in importable and module != "__future__":
                    for alias in node.names:
                        found[alias.asname or alias.name] = ast.unparse(
                            ast.ImportFrom(module=module, names=[alias], level=0)
                        )
    found.pop("*", None)
    return found


def wanted_by(check: Check) -> frozenset[str]:
    """Return the names that a check's code takes from outside of itself."""
    table = symtable.symtable(check.code, "<check>", "exec")
    return frozenset(_free(table)) - set(dir(builtins)) - {ANSWER}


def _free(table: symtable.SymbolTable) -> Iterator[str]:
    """Names that are looked up in the module and never bound there."""
    at_top = table.get_type() == "module"
    for symbol in table.get_symbols():
        if at_top:
            if symbol.is_referenced() and not (symbol.is_assigned() or symbol.is_imported()):
                yield symbol.get_name()
        elif symbol.is_global() and symbol.is_referenced():
            yield symbol.get_name()
    for child in table.get_children():
        bound = {s.get_name() for s in table.get_symbols() if s.is_assigned() or s.is_imported()}
        yield from (name for name in _free(child) if not (at_top and name in bound))


def executable(check: Check, answer: str, imports: Mapping[str, str] | None = None) -> str:
    """The Python that executes a check.

    It runs in a copy of the session's namespace, in which ANSWER is the text of the answer, so that what it
    assigns does not reach the next check. It fails when none of its asserts was reached.

    Args:
        imports: as `imports_of`; those that the check wants are made before it.
    """
    wanted = wanted_by(check)
    before = "".join(f"{line}\n" for name, line in (imports or {}).items() if name in wanted)
    tree = ast.fix_missing_locations(_Counted().visit(ast.parse(check.code)))
    source = f"{ast.unparse(tree)}\nassert {_REACHED}, 'no assert of this check was reached'\n"
    return (
        f"{before}import builtins, linecache\n"
        f"linecache.cache['<check>'] = ({len(source)}, None, {source!r}.splitlines(True), '<check>')\n"
        f"builtins.exec(builtins.compile({source!r}, '<check>', 'exec'), "
        f"{{**globals(), {ANSWER!r}: {answer!r}, {_REACHED!r}: []}})\n"
    )


class _Counted(ast.NodeTransformer):
    """Notes each assert that held."""

    def visit_Assert(self, node: ast.Assert) -> list[ast.stmt]:
        return [node, *ast.parse(f"{_REACHED}.append(True)").body]


def file_checks(answer: str, *, artifacts: Sequence[str], inputs: Iterable[str]) -> tuple[Check, ...]:
    """Checks of the files that an answer hands over: each artifact opens, and each named file is there.

    Args:
        answer: the text, in which file names are looked for.
        artifacts: names of the files that the task left.
        inputs: names of the person's files, which an answer may name too.
    """
    known = set(artifacts) | set(inputs) | {f"inputs/{name}" for name in inputs}
    known |= {name.rsplit("/", 1)[-1] for name in known}
    named = [quoted or linked for quoted, linked in _FILE_IN_ANSWER.findall(answer)]
    missing = [name for name in dict.fromkeys(named) if name not in known and "://" not in name]
    opened = tuple(
        Check(
            claim=f"{name} opens",
            code=_OPENERS.get(_ending(name), _ANY).format(name=name),
        )
        for name in artifacts
    )
    absent = tuple(
        Check(
            claim=f"{name}, which the answer names, was left",
            code=f"import pathlib\nassert pathlib.Path({name!r}).is_file(), 'there is no such file'\n",
        )
        for name in missing
    )
    return opened + absent


def _ending(name: str) -> str:
    dot = name.rfind(".")
    return name[dot:].lower() if dot >= 0 else ""
