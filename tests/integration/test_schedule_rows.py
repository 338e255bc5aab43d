"""Who may see, change and run schedules: through the API, as people do."""

from __future__ import annotations

from uuid import uuid4

import pytest

from tests.integration.callers import Someone

pytestmark = pytest.mark.timeout(60)


def test_people_see_and_change_their_own_schedules_only(ann: Someone, bob: Someone, nobody: Someone) -> None:
    made = ann.post("schedules", {"prompt": "Mine", "cron": "0 8 * * *"}, "return=representation")
    assert made.status_code == 201, made.text
    mine = made.json()[0]
    assert (mine["name"], mine["user_id"], mine["next_at"]) == ("Mine", ann.id, None)
    for stranger in (bob, nobody):
        seen = stranger.get("schedules")
        assert seen.status_code in {401, 403} or seen.json() == []
        stranger.patch(f"schedules?id=eq.{mine['id']}", {"prompt": "Theirs"})
        stranger.delete(f"schedules?id=eq.{mine['id']}")
        assert stranger.rpc("run_schedule", schedule_id=mine["id"], dedupe_key="x").status_code >= 400
        assert stranger.rpc("fire_schedules").status_code in {401, 403, 404}
    assert ann.rpc("fire_schedules").status_code in {401, 403, 404}
    assert ann.get("schedules?select=prompt").json() == [{"prompt": "Mine"}]
    for forbidden in ({"next_at": "2020-01-01T00:00:00Z"}, {"user_id": bob.id}, {"problem": None}):
        assert ann.patch(f"schedules?id=eq.{mine['id']}", forbidden).status_code in {401, 403}
    for columns, sentence in (
        ({"thread_id": bob.thread()}, "belongs to somebody else"),
        ({"assistant_id": str(uuid4())}, "belongs to somebody else"),
        ({"inputs": [{"name": "x", "storage_path": f"{bob.id}/x"}]}, "begins with the person's id"),
        ({"prompt": " "}, "prompt is empty"),
        ({"hosts": ["*.example.org"]}, "example.org"),
        ({"labels": ["No label!"]}, "label"),
    ):
        refused = ann.post("schedules", {"prompt": "P", "cron": "0 8 * * *"} | columns)
        assert refused.status_code in {400, 403}, refused.text
        assert sentence in refused.json()["message"]
    assert ann.post("tasks", {"prompt": "P", "schedule_id": mine["id"]}).status_code in {401, 403}


def test_run_now_makes_one_task_of_a_double_click(ann: Someone) -> None:
    made = ann.post("schedules", {"prompt": "Mine", "cron": "0 8 * * *"}, "return=representation").json()[0]
    key = str(uuid4())
    ids = {
        ann.rpc("run_schedule", schedule_id=made["id"], dedupe_key=key).raise_for_status().json()
        for _ in range(2)
    }
    assert len(ids) == 1
    runs = ann.rpc("schedule_runs", most=3).json()
    assert [(run["schedule_id"], run["id"], run["due_at"]) for run in runs] == [(made["id"], *ids, None)]
    # The answer may be lost for as long as the task lives: the key is still the key.
    (made_task,) = ids
    ann.rpc("cancel_task", task_id=made_task).raise_for_status()
    again = ann.rpc("run_schedule", schedule_id=made["id"], dedupe_key=key).raise_for_status().json()
    assert again == made_task
    other = ann.rpc("run_schedule", schedule_id=made["id"], dedupe_key=f"{key}2").raise_for_status().json()
    assert other != made_task
