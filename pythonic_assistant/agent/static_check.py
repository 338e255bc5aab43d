"""Reads code before it is run: what cannot work is said at once, with what to write instead.

This saves a turn. It is no boundary: code that hides what it imports runs all the same, and the kernel is
what keeps it in.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final

_DRAW: Final = {"matplotlib": "draw it with matplotlib and savefig"}
_FETCH: Final = {"httpx": "httpx", "requests": "requests", "urllib": "urllib.request"}
_FIT: Final = {"scipy": "scipy.optimize or scipy.stats", "numpy": "numpy.linalg.lstsq or numpy.polyfit"}
_PICTURES: Final = {"PIL": "PIL with numpy"}
ALTERNATIVES: Final[Mapping[str, Mapping[str, str]]] = {
    "sklearn": _FIT,
    "statsmodels": _FIT,
    "scipy": {"numpy": "numpy: polyfit, linalg, fft and random"},
    "seaborn": _DRAW,
    "plotly": _DRAW,
    "bokeh": _DRAW,
    "altair": _DRAW,
    "polars": {"pandas": "pandas"},
    "dask": {"pandas": "pandas, with chunksize for large files"},
    "duckdb": {"pandas": "pandas", "sqlite3": "sqlite3"},
    "requests": _FETCH,
    "httpx": _FETCH,
    "aiohttp": _FETCH,
    "bs4": {"lxml": "lxml.html", "html": "html.parser of the standard library"},
    "lxml": {"xml": "xml.etree.ElementTree of the standard library"},
    "xlsxwriter": {"openpyxl": "openpyxl, also as the engine of pandas.to_excel"},
    "xlrd": {"openpyxl": "openpyxl for .xlsx"},
    "fastparquet": {"pyarrow": "pyarrow, the default engine of pandas"},
    "cv2": _PICTURES,
    "skimage": _PICTURES,
    "fitz": {"pypdf": "pypdf"},
    "PyPDF2": {"pypdf": "pypdf"},
    "pytz": {"zoneinfo": "zoneinfo of the standard library"},
    "simplejson": {"json": "json of the standard library"},
    "ujson": {"json": "json of the standard library"},
    "tabulate": {"pandas": "pandas.DataFrame.to_string"},
    "networkx": {"scipy": "scipy.sparse.csgraph", "collections": "plain dicts and collections.deque"},
}
"""What does the same job, by the module that is missing; the first that is importable is named."""

DISTRIBUTIONS: Final = {
    "sklearn": "scikit-learn",
    "skimage": "scikit-image",
    "cv2": "opencv-python-headless",
    "PIL": "pillow",
    "yaml": "PyYAML",
    "bs4": "beautifulsoup4",
    "dateutil": "python-dateutil",
    "docx": "python-docx",
    "pptx": "python-pptx",
    "fitz": "PyMuPDF",
    "xlsxwriter": "XlsxWriter",
    "Crypto": "pycryptodome",
    "dotenv": "python-dotenv",
    "jose": "python-jose",
    "serial": "pyserial",
    "attr": "attrs",
}
"""Names of packages where they differ from the module's."""

ONLINE: Final = frozenset(
    {
        *("aiohttp", "boto3", "botocore", "httpx", "requests", "urllib", "urllib3", "http"),
        *("ftplib", "imaplib", "paramiko", "poplib", "smtplib", "socket", "websockets"),
    }
)
"""Modules that speak over the network, by their top names; for `http` and `urllib` the part counts."""
_OFFLINE_PARTS: Final = ("http.cookies", "http.HTTPStatus", "urllib.parse", "urllib.error")

_GUARDS: Final = frozenset({"ImportError", "ModuleNotFoundError", "Exception", "BaseException"})
_MAKES_MODULES: Final = re.compile(r"sys\.(path|modules|meta_path)|ModuleType|site\.addsitedir")
_MAGIC: Final = re.compile(r"^\s*[!%]\s*\w")


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """An import that nothing can satisfy."""

    module: str
    line: int
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What reading showed.

    Attributes:
        error: why the code cannot work, in the form of a traceback's end; empty when it may.
        missing: the modules that made it so.
        hint: what to think of when the code fails; may be empty.
    """

    error: str = ""
    missing: tuple[Missing, ...] = ()
    hint: str = ""


def read_code(
    code: str, *, importable: Set[str], earlier: Iterable[str] = (), online: bool = False
) -> Reading:
    """Look for what cannot work.

    Args:
        importable: names of top-level modules, tools included.
        earlier: code that ran before in the same session: it may have written modules.
        online: whether any host may be reached.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an odd escape in a string is no reason
            tree = ast.parse(code, "<code>")
            # finds what the grammar alone does not, such as `return` outside of a function
            compile(tree, "<code>", "exec", dont_inherit=True)
            found = list(_imports(tree, guarded=False))
    except SyntaxError as error:
        return Reading(error=_syntax(code, error))
    except ValueError as error:  # a NUL character
        return Reading(error=f"SyntaxError: {error}")
    except (RecursionError, MemoryError):  # nested beyond what is readable here: running it will tell
        return Reading()
    texts = (code, *earlier)
    missing = tuple(
        Missing(module=top, line=node.lineno, source=_line_of(code, node.lineno))
        for top, _, node in found
        if top not in importable and top != "__main__" and not _is_local(top, texts)
    )
    distinct = {item.module: item for item in reversed(missing)}
    missing = tuple(item for item in missing if distinct[item.module] is item)
    return Reading(
        error="\n\n".join(_absent(item, importable) for item in missing),
        missing=missing,
        hint="" if online else _offline(found),
    )


def package_of(module: str) -> str:
    """Return the name under which a module's package is installed, as far as it is known."""
    return DISTRIBUTIONS.get(module, module)


def _imports(node: ast.AST, *, guarded: bool) -> Iterator[tuple[str, str, ast.stmt]]:
    """Yield the top-level module, the whole name and the place of each import that nothing would catch."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import) and not guarded:
            for alias in child.names:
                yield alias.name.partition(".")[0], alias.name, child
        elif isinstance(child, ast.ImportFrom) and not guarded and child.level == 0 and child.module:
            for alias in child.names:
                yield child.module.partition(".")[0], f"{child.module}.{alias.name}", child
        elif isinstance(child, (ast.Try, ast.TryStar)):
            caught = guarded or any(_catches(handler.type) for handler in child.handlers)
            for part in child.body:
                yield from _imports(ast.Module(body=[part], type_ignores=[]), guarded=caught)
            rest: Sequence[ast.stmt] = [*child.orelse, *child.finalbody]
            # A handler is where the replacement is imported, perhaps in turn with one of its own.
            rest = [*rest, *(part for handler in child.handlers for part in handler.body)]
            yield from _imports(ast.Module(body=list(rest), type_ignores=[]), guarded=guarded)
        elif isinstance(child, ast.With) and any(_suppresses(item.context_expr) for item in child.items):
            yield from _imports(child, guarded=True)
        elif isinstance(child, ast.If) and _is_never(child.test):
            yield from _imports(ast.Module(body=child.orelse, type_ignores=[]), guarded=guarded)
        else:
            yield from _imports(child, guarded=guarded)


def _catches(kind: ast.expr | None) -> bool:
    if kind is None:
        return True
    return any(isinstance(part, ast.Name) and part.id in _GUARDS for part in ast.walk(kind))


def _suppresses(context: ast.expr) -> bool:
    return isinstance(context, ast.Call) and any(_catches(argument) for argument in context.args)


def _is_never(test: ast.expr) -> bool:
    """`if TYPE_CHECKING` and `if False`."""
    name = test.attr if isinstance(test, ast.Attribute) else test.id if isinstance(test, ast.Name) else ""
    return name == "TYPE_CHECKING" or (isinstance(test, ast.Constant) and not test.value)


def _is_local(module: str, texts: Sequence[str]) -> bool:
    """Whether the code may have made the module itself: its file is named, or modules are made by hand."""
    named = re.compile(rf"\b{re.escape(module)}(\.py\b|/)")
    return any(named.search(text) or _MAKES_MODULES.search(text) for text in texts)


def _absent(item: Missing, importable: Set[str]) -> str:
    parts = [
        f"Line {item.line}: {item.source}",
        f"{item.module} is not installed here, and code cannot install anything.",
    ]
    others = ALTERNATIVES.get(item.module, {})
    instead = next((words for module, words in others.items() if module in importable), None)
    if instead is not None:
        parts.append(f"Instead: {instead}.")
    else:
        close = get_close_matches(item.module, sorted(importable), n=3, cutoff=0.8)
        if close:
            parts.append(f"Perhaps you mean {' or '.join(close)}.")
        else:
            parts.append("Write it with the standard library, pandas or numpy.")
    parts.append(
        "Where nothing else will do, say in the answer that the owner can run: "
        f"pythonic sandbox packages add {package_of(item.module)}"
    )
    # Last, as in a traceback: the line that a person is shown where a step fails.
    parts.append(f"ModuleNotFoundError: No module named {item.module!r}")
    return "\n".join(parts)


def _syntax(code: str, error: SyntaxError) -> str:
    line = error.lineno or 0
    source = _line_of(code, line)
    shown = [f"Line {line}: {error.msg}"]
    if source:
        offset = max(1, error.offset or 1)
        width = 1
        if error.end_lineno == line and error.end_offset:
            width = max(1, min(error.end_offset, len(source) + 1) - offset)
        shown += [f"    {source}", f"    {' ' * (offset - 1)}{'^' * width}"]
    if _MAGIC.match(source):
        shown.append("Lines that begin with ! or % are no Python: there is no shell and no pip here.")
    shown.append(f"{type(error).__name__}: {error.msg}")
    return "\n".join(shown)


def _line_of(code: str, number: int) -> str:
    lines = code.split("\n")
    return lines[number - 1].rstrip()[:300] if 0 < number <= len(lines) else ""


def _offline(found: Sequence[tuple[str, str, ast.stmt]]) -> str:
    names = sorted({top for top, whole, _ in found if top in ONLINE and not _is_offline(whole)})
    if not names:
        return ""
    return (
        f"The code imports {', '.join(names)}, but this task may reach no host: connections and name "
        "look-ups fail here, so work with the files and say in the answer what could not be fetched."
    )


def _is_offline(whole: str) -> bool:
    return any(whole == part or whole.startswith(f"{part}.") for part in _OFFLINE_PARTS)
