"""What reading code finds before it is run, and what it lets through."""

from __future__ import annotations

import sys

import pytest

from pythonic_assistant.agent.static_check import package_of, read_code

IMPORTABLE = frozenset(sys.stdlib_module_names) | {"pandas", "numpy", "matplotlib", "openpyxl", "httpx"}


@pytest.mark.parametrize(
    "code",
    [
        "import pandas as pd, os.path\nfrom collections import abc",
        "from __future__ import annotations\nimport __main__",
        "try:\n    import polars\nexcept ImportError:\n    polars = None",
        "try:\n    import polars\nexcept (ValueError, ModuleNotFoundError):\n    import pandas",
        "try:\n    import polars\nexcept:\n    pass",
        "from contextlib import suppress\nwith suppress(ImportError):\n    import polars",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import polars",
        "from . import helper",
        "open('helper.py', 'w').write('x = 1')\nimport helper",
        "import os\nos.mkdir('helper')\nopen('helper/__init__.py', 'w').close()\nfrom helper import part",
        "import sys\nsys.path.insert(0, 'inputs')\nimport things",
        "import types, sys\nsys.modules['made'] = types.ModuleType('made')\nimport made",
        "__import__('polars')",
        r"pattern = '\d+'",
        "",
        "(" * 90 + ")" * 90,
        "x = " + "-" * 50_000 + "1",
        "x = a" + ".b" * 50_000,
        "x = " + "1 + " * 50_000 + "1",
        "async def f():\n    await g()",
    ],
)
def test_code_that_may_work_is_let_through(code: str) -> None:
    assert read_code(code, importable=IMPORTABLE).error == ""


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (
            "x = 1\nimport sklearn.linear_model",
            ["Line 2: import sklearn", "numpy.linalg", "add scikit-learn"],
        ),
        ("import seaborn as sns", ["draw it with matplotlib", "packages add seaborn"]),
        ("import requests", ["Instead: httpx.", "No module named 'requests'"]),
        ("def f():\n    from polars import DataFrame", ["Line 2", "Instead: pandas."]),
        ("import pands as pd", ["Perhaps you mean pandas."]),
        ("import nothing_like_it", ["standard library, pandas or numpy"]),
        ("try:\n    import a_thing\nexcept ValueError:\n    pass", ["a_thing"]),
        ("try:\n    import polars\nexcept ImportError:\n    import duckdb", ["duckdb"]),
        ("with open('x') as f:\n    import a_thing", ["a_thing"]),
    ],
)
def test_an_import_that_nothing_can_satisfy_is_named_with_what_to_do(code: str, words: list[str]) -> None:
    reading = read_code(code, importable=IMPORTABLE)
    assert len(reading.missing) == 1
    for word in words:
        assert word in reading.error


def test_only_what_is_importable_is_named_instead() -> None:
    assert "urllib.request" in read_code("import requests", importable=IMPORTABLE - {"httpx"}).error
    assert "scipy" in read_code("import sklearn", importable=IMPORTABLE | {"scipy"}).error
    assert "scipy" not in read_code("import sklearn", importable=IMPORTABLE).error


def test_each_missing_module_is_named_once() -> None:
    reading = read_code("import aa_x, bb_x\nimport aa_x.sub\n", importable=IMPORTABLE)
    assert [(item.module, item.line) for item in reading.missing] == [("aa_x", 1), ("bb_x", 1)]


def test_a_module_that_earlier_code_wrote_may_be_imported() -> None:
    earlier = ["from pathlib import Path\nPath('helper.py').write_text('x = 1')"]
    assert read_code("import helper", importable=IMPORTABLE, earlier=earlier).error == ""
    assert "helper" in read_code("import helper", importable=IMPORTABLE, earlier=["helper = 1"]).error


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("x = 1\ny = (2 + \n", ["Line 2", "    y = (2 +", "        ^", "SyntaxError: '(' was never closed"]),
        ("for x in y\n    pass", ["Line 1", "expected ':'", "^"]),
        ("if True:\nx = 1", ["IndentationError", "Line 2"]),
        ("!pip install x", ["no shell and no pip"]),
        ("%matplotlib inline", ["no shell and no pip"]),
        ("x = '\0'", ["SyntaxError"]),
        ("(" * 1000, ["SyntaxError: too many nested parentheses"]),
        ("return 1", ["SyntaxError: 'return' outside function"]),
        ("await f()", ["SyntaxError: 'await' outside function"]),
        ("é = 'ö", ["Line 1", "    é = 'ö", "        ^"]),
    ],
)
def test_a_mistake_in_the_grammar_is_shown_with_its_place(code: str, words: list[str]) -> None:
    error = read_code(code, importable=IMPORTABLE).error
    for word in words:
        assert word in error


@pytest.mark.parametrize(
    ("code", "hinted"),
    [
        ("import httpx", "httpx"),
        ("from urllib.request import urlopen", "urllib"),
        ("import http.client", "http"),
        ("import socket, smtplib", "smtplib, socket"),
        ("from urllib.parse import quote", ""),
        ("import http.cookies", ""),
        ("import pandas", ""),
    ],
)
def test_a_network_module_is_a_hint_where_no_host_may_be_reached(code: str, hinted: str) -> None:
    reading = read_code(code, importable=IMPORTABLE)
    assert reading.error == ""
    assert (f"imports {hinted}," in reading.hint) if hinted else reading.hint == ""
    assert read_code(code, importable=IMPORTABLE, online=True).hint == ""


def test_packages_have_the_names_under_which_they_are_installed() -> None:
    assert package_of("cv2") == "opencv-python-headless"
    assert package_of("seaborn") == "seaborn"
