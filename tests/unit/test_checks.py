"""Which checks can fail, and which files an answer promises."""

from __future__ import annotations

import pytest

from pythonic_assistant.agent.checks import file_checks, problem_of, with_answer
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
        ("assert 1 == 1", "constant"),
        ("assert 'yes'", "constant"),
        ("try:\n    assert x == 1\nexcept Exception:\n    pass", "inside of try"),
        ("assert (", "not Python"),
        ("assert x\0", "not Python"),
    ],
)
def test_checks_that_cannot_fail_are_named(code: str, words: str) -> None:
    problem = problem_of(Check(claim="c", code=code))
    assert problem is not None
    assert words in problem


def test_the_answer_is_a_variable_of_the_check() -> None:
    names: dict[str, object] = {}
    exec(with_answer("copy = ANSWER", 'it\'s "quoted"\n and \\ long'), names)
    assert names["copy"] == 'it\'s "quoted"\n and \\ long'


def test_each_artifact_has_to_open_and_each_promised_file_to_be_there() -> None:
    checks = file_checks(
        "See `plot.png`, out/table.csv and report.pdf; made from inputs/sales.csv (sales.csv) in v1.2.",
        artifacts=["plot.png", "out/table.csv"],
        inputs=["sales.csv"],
    )
    assert [check.claim for check in checks] == [
        "plot.png opens",
        "out/table.csv opens",
        "report.pdf, which the answer names, was left",
    ]
    assert all(problem_of(check) is None for check in checks)


@pytest.mark.parametrize("name", ["it's.csv", 'a"b.png', "новый.json", "x.unknown", "no_ending"])
def test_file_checks_are_python_whatever_the_name(name: str) -> None:
    (check,) = file_checks("", artifacts=[name], inputs=[])
    assert problem_of(check) is None
    assert repr(name) in check.code


def test_addresses_are_not_files() -> None:
    assert file_checks("https://example.com/data.csv and a@b.txt", artifacts=[], inputs=[]) == ()
