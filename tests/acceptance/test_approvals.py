"""What waits for a person, in the browser: live on every tab, exact, decided once, nobody else's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncpg
import httpx
from playwright.async_api import BrowserContext, Page, expect

from tests.acceptance.browser import WAIT, World, announced, ask, badge
from tests.acceptance.page_world import Claim, free_port, plan, start_page, stop

ARMED = 1_500  # ms after which the buttons take clicks
MAIL: dict[str, Any] = {
    "preview": {
        "form": "fields",
        "fields": [
            {"name": "to", "value": "marta@example.org"},
            {"name": "body", "value": "\n".join(f"Line {number} of the letter." for number in range(200))},
        ],
    },
    "standing": {"tool": "send_mail", "recipient": {"to": "marta@example.org"}},
    "request": {"arguments": {"to": "marta@example.org", "body": "Line 0"}},
}
REQUEST: dict[str, Any] = {
    "method": "POST",
    "url": "https://api.example.org/v1/items",
    "headers": [{"name": "Authorization", "value": "Bearer {TOKEN}"}],
    "body": '{"name":"Chair","price":12}',
}
# The name of a field stands on one line of Markdown, its value in a box.
HOSTILE = (
    "<img src=x onerror=alert(1)> [click](javascript:alert(1)) ![p](http://127.0.0.1:9/p.png) $x^2$ "
    ":material/check: :red[r] </code></pre><script>alert(1)</script>"
)
HIDDEN = "moc.elgoog\u202e pay\u200bpal \u2066inside\u2069 \x1b[2J"
SHOWN = "moc.elgoog⟨U+202E⟩ pay⟨U+200B⟩pal ⟨U+2066⟩inside⟨U+2069⟩ ⟨U+001B⟩[2J"


async def asked(world: World, page: Page, prompt: str) -> Claim:
    """Ask a task in a new thread, claim it, and let it begin a step."""
    if "thread=" in page.url:
        await page.get_by_role("button", name="New thread").click(timeout=WAIT)
    await page.get_by_text("What shall be done?").wait_for(timeout=WAIT)
    await ask(page, prompt)
    claim = await world.worker.claim()
    while claim.prompt != prompt:
        claim = await world.worker.claim()
    started = {"model": "m", "scripted": False, "sandbox": "namespaces"}
    await world.worker.tell(
        claim, ("run_started", started), plan("Send it"), ("step_started", {"step_id": "s1"})
    )
    return claim


async def goes_on(world: World, task_id: int) -> Claim:
    claim = await world.worker.claim()
    while claim.task_id != task_id:
        claim = await world.worker.claim()
    return claim


async def pending(world: World, task_id: int) -> list[str]:
    """The states of what was asked for a task."""
    found = await world.worker.http.get(
        "/rest/v1/approvals", params={"task_id": f"eq.{task_id}", "select": "state", "order": "id"}
    )
    return [row["state"] for row in found.json()]


def waiting_button(page: Page, words: str) -> Any:
    return page.get_by_test_id("stSidebar").get_by_role("button", name=words)


async def test_a_card_comes_and_goes_on_two_tabs_and_takes_no_accidental_click(world: World) -> None:
    page = await world.open()
    second = await world.visit(page.context, "/?view=waiting")
    await expect(second.get_by_text("Nothing waits.")).to_be_visible(timeout=WAIT)
    claim = await asked(world, page, "Write to Marta")
    said = await world.worker.begin(claim, "send_mail", **MAIL)
    await world.worker.wait(claim)

    approve = page.get_by_role("button", name="Approve")
    await approve.wait_for(timeout=WAIT)
    box = await approve.bounding_box()
    assert box is not None
    # Whoever clicks here at this moment meant what stood here before.
    await page.mouse.dblclick(box["x"] + 20, box["y"] + 10)
    await page.wait_for_timeout(700)
    assert await pending(world, claim.task_id) == ["pending"]
    await expect(badge(page, "Waits for you")).to_be_visible(timeout=WAIT)
    await expect(waiting_button(page, "Waiting for you 1")).to_be_visible(timeout=WAIT)
    assert any("Your decision is asked for: May the assistant" in said for said in await announced(page))
    assert "Line 199 of the letter." in await page.get_by_test_id("stCode").first.inner_text()
    await expect(page.get_by_text("Expires in 7 days")).to_be_visible()
    await expect(second.get_by_role("button", name="Approve")).to_be_visible(timeout=WAIT)

    # By the keyboard alone: the box, then the button.
    await page.wait_for_timeout(ARMED)
    always = page.get_by_role("checkbox", name="Always allow this tool for this recipient")
    await always.press("Space")
    await expect(always).to_be_checked(timeout=WAIT)
    await approve.press("Enter")
    await expect(page.get_by_text("Approved by you")).to_be_visible(timeout=WAIT)
    await expect(second.get_by_text("Approved by you, not in this tab")).to_be_visible(timeout=WAIT)
    await expect(second.get_by_role("button", name="Approve")).to_have_count(0)
    await expect(waiting_button(page, "Waiting for you 1")).to_have_count(0, timeout=WAIT)

    # The task goes on; another attempt is given the recorded result; both stand in the details.
    claim = await goes_on(world, claim.task_id)
    assert (await world.worker.begin(claim, "send_mail", **MAIL))["do"] == "go"
    await world.worker.end(claim, said["key"], "succeeded", {"message": "m-31"})
    said = {"question": "In which colour?", "choices": ["red **x**", "blue"]}
    await world.worker.begin(claim, "ask_person", risk="read", request=said, **said)
    await world.worker.wait(claim)
    await second.get_by_text("red **x**").click(timeout=WAIT)
    await second.wait_for_timeout(ARMED)
    await second.get_by_role("button", name="Answer").click()
    await expect(page.get_by_text("Answered: red **x** by you, not in this tab")).to_be_visible(timeout=WAIT)
    claim = await goes_on(world, claim.task_id)
    assert (await world.worker.begin(claim, "send_mail", **MAIL))["result"] == {"message": "m-31"}
    await world.worker.finish(claim, "It is sent.", "unverified")
    await page.get_by_text("Worked for").click(timeout=WAIT)
    await page.get_by_text("Outside: 1 action, 1 done").click(timeout=WAIT)
    await expect(page.get_by_text("given back from the ledger in attempt 3")).to_be_visible(timeout=WAIT)
    await page.get_by_text("What was sent, and what came back").click()
    await expect(page.get_by_text('"message": "m-31"')).to_be_visible(timeout=WAIT)

    # What was allowed for good needs no word any more, until it is taken back.
    claim = await asked(world, page, "Write to Marta again")
    assert (await world.worker.begin(claim, "send_mail", **MAIL))["do"] == "go"
    await second.reload()
    await second.get_by_role("button", name="Take back").click(timeout=WAIT)
    await expect(second.get_by_text("Nothing: you are asked each time.")).to_be_visible(timeout=WAIT)
    other = MAIL | {"request": {"arguments": {"to": "marta@example.org", "body": "Another"}}}
    assert (await world.worker.begin(claim, "send_mail", **other))["do"] == "ask"
    await world.worker.finish(claim, "Sent.", "unverified")


async def test_nothing_in_a_preview_is_run_or_hidden(world: World) -> None:
    page = await world.open()
    claim = await asked(world, page, "Write to somebody")
    fields = [
        {"name": f"a {HOSTILE}", "value": HIDDEN},
        {"name": "body", "value": HOSTILE + "\n" * 60 + HIDDEN},
    ]
    await world.worker.begin(
        claim,
        "send_mail",
        preview={"form": "fields", "fields": fields},
        standing={"tool": "send_mail", "recipient": {"to": f"{HOSTILE}\u202e"}},
    )
    await world.worker.begin(
        claim, "ask_person", risk="read", question=f"{HOSTILE}\n{HIDDEN}", choices=[HOSTILE, HIDDEN]
    )
    await world.worker.wait(claim)
    cards = page.locator('[class*="st-key-asked-"]')
    await expect(cards).to_have_count(2, timeout=WAIT)
    await expect(page.get_by_test_id("stCode")).to_have_count(1, timeout=WAIT)
    await expect(page.get_by_test_id("stSkeleton")).to_have_count(0, timeout=WAIT)
    first, second = await cards.nth(0).inner_text(), await cards.nth(1).inner_text()
    assert first.count("onerror=alert(1)") == 3  # a field's name, a value, what the rule means
    assert first.count(":material/check: :red[r]") == 3
    assert first.count(SHOWN) == 2
    assert second.count(SHOWN) == 2
    assert "⟨U+202E⟩ exactly" in first
    for forbidden in ("img", "a", "script", ".katex", "p [aria-label='check icon']"):
        assert await cards.locator(forbidden).count() == 0, forbidden
    content = await page.content()
    assert not any(hidden in content for hidden in "\u202e\u2066\u2069")
    assert not any(":9/" in url for url in world.requests)

    await page.wait_for_timeout(ARMED)
    await page.get_by_role("textbox", name="Why not?").fill("not to them")
    await page.get_by_role("button", name="Refuse").click()
    await expect(page.get_by_text("Refused: not to them by you")).to_be_visible(timeout=WAIT)
    await page.get_by_role("button", name="Answer").click()
    await expect(page.get_by_text("Choose one of the answers.")).to_be_visible(timeout=WAIT)
    assert await pending(world, claim.task_id) == ["refused", "pending"]
    # Nobody decides: the card says so, and its buttons go.
    database = await asyncpg.connect(world.supabase.database_url)
    await database.execute(
        "update public.approvals set expires_at = now() - interval '1 s' where task_id = $1", claim.task_id
    )
    await database.close()
    await world.worker.rpc("expire_approvals", {})
    await expect(page.get_by_text("Expired: nobody answered in time")).to_be_visible(timeout=WAIT)
    await expect(page.get_by_role("button", name="Answer")).to_have_count(0)


async def test_nobody_else_sees_or_decides_it(world: World, tmp_path: Path) -> None:
    page = await world.open()
    claim = await asked(world, page, "Pay the bill")
    said = await world.worker.begin(claim, "pay", request=REQUEST, kind="request", risk="write")
    await world.worker.end(claim, said["key"], "unknown")
    approval = await world.worker.ask_outcome(claim, said["key"], {"form": "request", **REQUEST})
    await world.worker.wait(claim)
    await expect(page.get_by_text('"price": 12')).to_be_visible(timeout=WAIT)

    account = world.supabase.sign_up()
    port = free_port()
    process = start_page(world.supabase, tmp_path, port, local=False)
    try:
        other = await signed_in(replace(world, port=port), account)
        await other.goto(f"http://127.0.0.1:{port}/?task={claim.task_id}")
        await expect(other.get_by_text("There is no such task of yours.")).to_be_visible(timeout=WAIT)
        await other.goto(f"http://127.0.0.1:{port}/?view=waiting")
        await expect(other.get_by_text("Nothing waits.")).to_be_visible(timeout=WAIT)
        await other.context.close()
    finally:
        stop(process)
    async with httpx.AsyncClient(
        base_url=world.supabase.url,
        headers={
            "apikey": world.supabase.publishable_key,
            "Authorization": f"Bearer {account['access_token']}",
        },
        timeout=20,
    ) as http:
        for decision in ("happened", "again", "stop", "approve"):
            refused = await http.post(
                "/rest/v1/rpc/decide_approval", json={"approval": approval, "decision": decision}
            )
            assert refused.status_code in (400, 403), refused.text
            assert f"There is no question {approval} to you." in refused.text
        for table in ("approvals", "effects", "standing_rules", "task_items"):
            assert (await http.get(f"/rest/v1/{table}")).json() == []
        forged = await http.patch(f"/rest/v1/approvals?id=eq.{approval}", json={"state": "approved"})
        assert forged.status_code in (400, 401, 403), forged.text
    assert await pending(world, claim.task_id) == ["pending"]

    await page.wait_for_timeout(ARMED)
    await page.get_by_role("button", name="Stop the task").click()
    await expect(badge(page, "Cancelled")).to_be_visible(timeout=WAIT)
    await expect(page.get_by_text("“Stop the task” by you")).to_be_visible(timeout=WAIT)


async def signed_in(world: World, account: dict[str, Any]) -> Page:
    context: BrowserContext = await world.browser.new_context(viewport={"width": 1200, "height": 900})
    page = await world.visit(context)
    await page.get_by_role("textbox", name="E-mail").first.fill(account["email"])
    await page.get_by_role("textbox", name="Password").first.fill(account["password"])
    await page.get_by_role("button", name="Sign in", exact=True).click()
    await page.get_by_role("button", name="New thread").wait_for(timeout=WAIT)
    return page
