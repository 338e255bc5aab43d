"""The short drill: 60 kills and more, at each named point of a task's path; nothing is lost."""

from __future__ import annotations

import time

import pytest

from tests.drill.drill import prepared
from tests.drill.planning import short
from tests.drill.points import AFTER_A_DEATH, POINTS
from tests.drill.report import problems, sums, table

LANES = 6
SLOW_MACHINE = 6.0
"""Times the bounds of a restart: here other tests have the processors; `make drill` has the bounds."""


@pytest.mark.timeout(600)
async def test_nothing_is_lost_and_nothing_is_done_twice() -> None:
    began = time.monotonic()
    async with prepared(direct=LANES, api=0) as drill:
        for missions in short():
            await drill.make(missions)
        wrong = await drill.faults()
    book = drill.field.book
    told = f"{table(book)}\n\n{sums(book, wrong, time.monotonic() - began)}"
    assert not wrong, f"{told}\n\n" + "\n".join(wrong)
    doubtful = problems(book, bound_factor=SLOW_MACHINE)
    assert not doubtful, f"{told}\n\n" + "\n".join(doubtful)
    assert len(book.kills) >= 60
    reached = {kill.mission.place for kill in book.kills if kill.proof}
    assert reached >= {point.place for point in (*POINTS, *AFTER_A_DEATH)}
    print(told)
