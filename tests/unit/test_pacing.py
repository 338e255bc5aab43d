"""How often an idle worker calls."""

from __future__ import annotations

import pytest

from worker.pacing import AGAIN_SECONDS, Pacing


def idle_calls(pacing: Pacing, *, hints: bool, seconds: float) -> int:
    """Calls of an idle worker within so many seconds, as the engine makes them."""
    now, calls = 0.0, 0
    while now < seconds:
        told = pacing.to_be_seen(now)
        if told:
            pacing.told(now)
        calls += 2 if told and not pacing.along else 1
        now += pacing.pause(found=False, hints=hints, told=told, due=None)
    return calls


@pytest.mark.parametrize(("along", "seen"), [(True, 10.0), (False, 30.0)])
@pytest.mark.parametrize("hints", [True, False])
def test_an_idle_worker_calls_at_most_once_in_five_seconds(along: bool, seen: float, hints: bool) -> None:
    pacing = Pacing(longest=5.0, seen=seen, along=along)
    idle_calls(pacing, hints=hints, seconds=60)
    assert idle_calls(pacing, hints=hints, seconds=600) <= 121


def test_without_hints_it_looks_more_often_after_something_was_there() -> None:
    pacing = Pacing(longest=5.0, seen=10.0, along=True)
    pauses = [pacing.pause(found=False, hints=False, told=False, due=None) for _ in range(4)]
    assert pauses == [1.0, 2.0, 4.0, 5.0]
    assert pacing.pause(found=True, hints=False, told=False, due=None) == 1.0


def test_a_hint_is_followed_by_one_more_look_and_a_due_time_is_kept() -> None:
    pacing = Pacing(longest=5.0, seen=10.0, along=True)
    pacing.hinted()
    assert pacing.pause(found=True, hints=True, told=False, due=3.0) == AGAIN_SECONDS
    assert pacing.pause(found=False, hints=True, told=False, due=3.0) == 3.0
    assert pacing.pause(found=False, hints=True, told=False, due=-1.0) == 0.01
    assert pacing.pause(found=False, hints=True, told=False, due=None) == 5.0
