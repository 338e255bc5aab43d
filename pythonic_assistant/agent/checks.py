"""What makes a check worth running, and the checks that the assistant adds by itself.

A check that cannot fail proves nothing, so its code is read before it is run.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Sequence

from pythonic_assistant.agent.schemas import Check

_FILE_IN_ANSWER = re.compile(
    r"(?<![\w/.:@-])"
    r"((?:[\w-]+/)*[\w-][\w.-]*"
    r"\.(?:png|jpe?g|svg|pdf|csv|tsv|xlsx|parquet|json|txt|md|html|zip))"
    r"(?![\w/])",
    re.IGNORECASE,
)

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

    It has to parse, to assert something that is not a constant, and to assert it outside of any `try` that
    would swallow the failure.
    """
    try:
        tree = ast.parse(check.code)
    except (SyntaxError, ValueError) as error:
        return f'The check "{check.claim}" is not Python: {error}.'
    asserts = list(_asserts(tree, guarded=False))
    if not asserts:
        return f'The check "{check.claim}" has no assert.'
    if any(guarded for _, guarded in asserts):
        return f'The check "{check.claim}" asserts inside of try, so its failure could be swallowed.'
    if not any(_depends_on_something(node.test) for node, _ in asserts):
        return f'The check "{check.claim}" asserts a constant, so it cannot fail.'
    return None


def _asserts(node: ast.AST, *, guarded: bool) -> Iterator[tuple[ast.Assert, bool]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Assert):
            yield child, guarded
        inside = guarded or (isinstance(child, (ast.Try, ast.TryStar)) and bool(child.handlers))
        yield from _asserts(child, guarded=inside)


def _depends_on_something(test: ast.expr) -> bool:
    return any(isinstance(part, (ast.Name, ast.Call, ast.Attribute)) for part in ast.walk(test))


def with_answer(code: str, answer: str) -> str:
    """Put the answer's text into the variable ANSWER before a check's code."""
    return f"ANSWER = {answer!r}\n{code}"


def file_checks(answer: str, *, artifacts: Sequence[str], inputs: Iterable[str]) -> tuple[Check, ...]:
    """Checks of the files that an answer hands over: each artifact opens, and each named file is there.

    Args:
        answer: the text, in which file names are looked for.
        artifacts: names of the files that the task left.
        inputs: names of the person's files, which an answer may name too.
    """
    known = set(artifacts) | set(inputs) | {f"inputs/{name}" for name in inputs}
    bare = {name.rsplit("/", 1)[-1] for name in known}
    missing = [
        name
        for name in dict.fromkeys(_FILE_IN_ANSWER.findall(answer))
        if name not in known and name not in bare
    ]
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
