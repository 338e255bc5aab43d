"""Workers, why a task does not start, what tasks cost, and the budget of a day, on the page."""

from __future__ import annotations

from playwright.async_api import expect

from tests.acceptance.browser import WAIT, World, ask, badge


async def test_a_budget_is_set_holds_the_next_task_and_lets_it_go_when_it_is_raised(world: World) -> None:
    page = await world.open()
    sidebar = page.get_by_test_id("stSidebar")
    await ask(page, "Add one and two")
    claim = await world.worker.claim()
    used = {"turns": 1, "input_tokens": 9000, "cached_tokens": 4000, "output_tokens": 300}
    await world.worker.tell(
        claim,
        ("run_started", {"model": "gpt-6-luna", "sandbox": "namespaces", "limits": {"cost": 5.0}}),
        ("model_replied", {"purpose": "plan", "seconds": 1.0, "usage": used | {"cost": 0.0421}}),
        ("model_replied", {"purpose": "code", "seconds": 1.0, "usage": used | {"cost": None}}),
    )
    await world.worker.finish(claim, "Three.", "unverified")
    await expect(page.get_by_text("Three.")).to_be_visible(timeout=WAIT)

    await sidebar.get_by_role("button", name="Budget").click(timeout=WAIT)
    dialog = page.get_by_role("dialog")
    await expect(dialog.get_by_text("$0.0421", exact=True)).to_be_visible(timeout=WAIT)
    await expect(dialog.get_by_text("The cost of 1 reply is unknown")).to_be_visible()
    money = dialog.get_by_role("spinbutton", name="US dollars")
    await money.fill("0.04")
    await dialog.get_by_role("button", name="Save").click()
    await expect(dialog.get_by_text("Saved.")).to_be_visible(timeout=WAIT)
    await expect(dialog.get_by_text("The budget of today is spent")).to_be_visible(timeout=WAIT)
    await expect(dialog.get_by_text("$0.0421 of $0.04")).to_be_visible()
    await dialog.get_by_text("Last days").click()
    await expect(dialog.get_by_role("cell", name="gpt-6-luna")).to_be_visible(timeout=WAIT)
    await page.keyboard.press("Escape")

    await ask(page, "Add three and four")
    await expect(badge(page, "Held")).to_be_visible(timeout=WAIT)
    await expect(
        page.get_by_text("Your budget of $0.04 a day is spent; this task starts after")
    ).to_be_visible()
    await page.get_by_role("button", name="No internet").click(timeout=WAIT)
    await page.get_by_text("Limits for the next task").click()
    await expect(page.get_by_text("Today: $0.0421 of $0.04")).to_be_visible(timeout=WAIT)
    await page.keyboard.press("Escape")
    await sidebar.get_by_role("button", name="Budget").click(timeout=WAIT)
    await money.fill("2.50")
    await dialog.get_by_role("button", name="Save").click()
    await expect(dialog.get_by_text("$0.0421 of $2.50")).to_be_visible(timeout=WAIT)
    await page.keyboard.press("Escape")
    await expect(badge(page, "Queued")).to_be_visible(timeout=WAIT)
    claim = await world.worker.claim()
    await world.worker.finish(claim, "Seven.", "unverified")
    await world.worker.http.patch(
        "/rest/v1/profiles", params={"id": f"eq.{claim.user_id}"}, json={"daily_cost": None}
    )


async def test_a_task_that_no_worker_can_take_says_which_label_is_missing(world: World) -> None:
    facts = {
        "host": "rack-7.example.org",
        "version": "0.9",
        "slots": 4,
        "labels": ["office"],
        "adapter": "direct",
    }
    facts |= {"sandbox": "namespaces", "model": "gpt-6-luna", "running": 1}
    await world.worker.rpc("worker_seen", {"worker": world.worker.worker, "facts": facts})
    page = await world.open()
    await ask(page, "Say hello")
    claim = await world.worker.claim()
    row = {"user_id": claim.user_id, "prompt": "Train the model", "labels": ["gpu"]}
    made = await world.worker.http.post(
        "/rest/v1/tasks", json=row, headers={"Prefer": "return=representation"}
    )
    assert made.status_code == 201, made.text
    task = made.json()[0]
    await page.get_by_test_id("stSidebar").get_by_role("button", name="Workers and tasks").click(timeout=WAIT)
    dialog = page.get_by_role("dialog")
    await expect(dialog.get_by_text("rack-7.example.org")).to_be_visible(timeout=WAIT)
    await expect(dialog.get_by_text("online, 1 of 4 slots busy")).to_be_visible()
    await expect(dialog.get_by_text("office", exact=True)).to_be_visible()
    await expect(dialog.get_by_text("Needs a worker with the label gpu; none is online.")).to_be_visible()
    await expect(dialog.get_by_text("1 running · 1 queued")).to_be_visible()
    await world.worker.rpc(
        "worker_seen", {"worker": world.worker.worker, "facts": {"labels": ["gpu", "office"]}}
    )
    await dialog.get_by_role("button", name="Look again").click()
    await expect(dialog.get_by_text("Starts in a moment.")).to_be_visible(timeout=WAIT)
    await world.worker.rpc("worker_seen", {"worker": world.worker.worker, "facts": {"stopped": True}})
    await dialog.get_by_role("button", name="Look again").click()
    await expect(dialog.get_by_text("stopped just now")).to_be_visible(timeout=WAIT)
    await expect(dialog.get_by_text("No worker is online; it starts when one comes.")).to_be_visible()
    await page.keyboard.press("Escape")
    await page.goto(f"{world.address}/?thread={task['thread_id']}")
    await expect(page.get_by_text("Needs a worker with the label gpu; none is online.")).to_be_visible(
        timeout=WAIT
    )
    await world.worker.finish(claim, "Hello.", "unverified")
    await world.worker.rpc("cancel_task", {"task_id": task["id"]})
