"""Which checks can fail, and which files an answer promises."""

from __future__ import annotations

import pytest

from pythonic_assistant.agent.checks import executable, file_checks, imports_of, problem_of, wanted_by
from pythonic_assistant.agent.schemas import Check


@pytest.mark.parametrize(
    "code",
    [
        "assert total == 3",
        "import pandas as pd\nassert len(pd.read_csv('inputs/a.csv')) > 1",
        "for name in names:\n    assert name",
        "try:\n    f()\nfinally:\n    assert x",
        "with open('a') as f:\n    assert f.read()",
    ],
)
def test_checks_that_can_fail_are_taken(code: str) -> None:
    assert problem_of(Check(claim="c", code=code)) is None


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("print(1)", "no assert"),
        ("assert 1 == 1", "nothing about data"),
        ("assert 'yes'", "nothing about data"),
        ("assert ANSWER", "nothing about data"),
        ("assert len(ANSWER) > 0", "nothing about data"),
        ("try:\n    assert x == 1\nexcept Exception:\n    pass", "inside of try"),
        ("assert (", "not Python"),
        ("assert x\0", "not Python"),
        ("assert x\nreturn", "not Python"),
        ("assert x" + ".y" * 100_000, "not Python"),
    ],
)
def test_checks_that_cannot_fail_are_named(code: str, words: str) -> None:
    problem = problem_of(Check(claim="c", code=code))
    assert problem is not None
    assert words in problem


def run(code: str, answer: str = "The total is 99", **names: object) -> dict[str, object]:
    exec(executable(Check(claim="c", code=code), answer), names)
    return names


def test_the_answer_is_a_variable_of_the_check() -> None:
    text = 'it\'s "quoted"\n and \\ long'
    run("assert ANSWER == expected", text, expected=text)
    with pytest.raises(AssertionError):
        run("assert ANSWER == expected", text, expected="another")


@pytest.mark.parametrize(
    "code",
    [
        "for row in []:\n    assert row",
        "def never_called():\n    assert total == 99",
        "if False:\n    assert total == 99",
        "from contextlib import suppress\nwith suppress(AssertionError):\n    assert total == 99",
    ],
)
def test_an_assert_that_is_never_reached_or_swallowed_fails(code: str) -> None:
    assert problem_of(Check(claim="c", code=code)) is None, "it cannot be seen in the code"
    with pytest.raises(AssertionError, match="no assert of this check was reached"):
        run(code, total=10)


def test_an_assert_in_a_function_that_is_called_counts() -> None:
    run("def check(rows):\n    for row in rows:\n        assert row < limit\ncheck([1, 2])", limit=3)


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("assert total == 3", {"total"}),
        ("import csv\nfor row in csv.reader(rows): assert row", {"rows"}),
        ("def f(a):\n    return a + b + len(a) + c\nc = 1\nassert f(2)", {"b"}),
        ("assert [x for x in xs] and ANSWER", {"xs"}),
        ("with open('a') as f:\n    assert f.read()", set()),
        ("class A:\n    k = 1\n    def m(self): return k2\nassert A", {"k2"}),
    ],
)
def test_what_a_check_takes_from_outside_is_known(code: str, names: set[str]) -> None:
    assert wanted_by(Check(claim="c", code=code)) == names


def test_only_imports_of_libraries_are_repeated_and_only_where_they_are_wanted() -> None:
    work = ["import json as j, helper\nfrom math import *", "from pathlib import Path as P\nfrom . import x"]
    imports = imports_of(work, {"json", "math", "pathlib"})
    assert imports == {"j": "import json as j", "P": "from pathlib import Path as P"}
    code = executable(Check(claim="c", code="assert j.loads('1')"), "", imports)
    assert code.startswith("import json as j\nimport builtins")
    exec(code, {})


def test_a_check_does_not_change_the_work() -> None:
    names = run("total = 99\nassert total == 99", total=10)
    assert names["total"] == 10
    assert "ANSWER" not in names


def test_each_artifact_has_to_open_and_each_promised_file_to_be_there() -> None:
    checks = file_checks(
        "See `plot.png`, [the table](out/table.csv), `my sales report.csv` and `report.pdf`; made from "
        "`inputs/sales.csv` (`sales.csv`) as told in readme.txt, e.g. data.json.",
        artifacts=["plot.png", "out/table.csv", "my sales report.csv"],
        inputs=["sales.csv"],
    )
    assert [check.claim for check in checks] == [
        "plot.png opens",
        "out/table.csv opens",
        "my sales report.csv opens",
        "report.pdf, which the answer names, was left",
    ]
    assert all(problem_of(check) is None for check in checks)


@pytest.mark.parametrize("name", ["it's.csv", 'a"b.png', "новый.json", "x.unknown", "no_ending"])
def test_file_checks_are_python_whatever_the_name(name: str) -> None:
    (check,) = file_checks("", artifacts=[name], inputs=[])
    assert problem_of(check) is None
    assert repr(name) in check.code


def test_addresses_are_not_files() -> None:
    answer = "[data](https://example.com/data.csv) and a@b.txt"
    assert file_checks(answer, artifacts=[], inputs=[]) == ()
