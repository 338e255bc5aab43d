"""Hosts and secrets on the page, and what is told of how they were used."""

from __future__ import annotations

import re

from playwright.async_api import expect

from pythonic_assistant.adapters.secrets import vault
from tests.acceptance.browser import WAIT, World, ask, badge
from tests.acceptance.page_world import PlayedWorker, plan


async def test_a_host_is_allowed_for_a_new_thread_and_forbidden_again(world: World) -> None:
    page = await world.open()
    await page.get_by_role("button", name="No internet").click(timeout=WAIT)
    box = page.get_by_role("textbox", name="Host name")
    await box.fill("https://api.github.com")
    await box.press("Enter")
    await expect(page.get_by_text("has a scheme")).to_be_visible(timeout=WAIT)
    await box.fill("api.github.com")
    await box.press("Enter")
    await expect(page.get_by_role("button", name="1 site allowed")).to_be_visible(timeout=WAIT)
    # The label has changed, and what was opened stays open.
    await expect(box).to_be_visible()
    await expect(page.get_by_text("has a scheme")).to_have_count(0)
    await page.keyboard.press("Escape")
    await ask(page, "Read my issues")
    claim = await world.worker.claim()
    assert claim.hosts == ["api.github.com"]
    await world.worker.finish(claim, "None are open.", "unverified")
    await expect(page.get_by_text("None are open.")).to_be_visible(timeout=WAIT)
    await page.get_by_role("button", name="1 site allowed").click(timeout=WAIT)
    await page.get_by_role("button", name="Forbid api.github.com").click(timeout=WAIT)
    await expect(page.get_by_role("button", name="No internet")).to_be_visible(timeout=WAIT)
    await page.keyboard.press("Escape")
    await ask(page, "And now?")
    claim = await world.worker.claim()
    assert claim.hosts == []
    await world.worker.finish(claim, "Nothing.", "unverified")


async def test_a_secret_is_sealed_and_never_shown_again(world: World) -> None:
    private = await world.worker.publish_key()
    page = await world.open()
    await page.get_by_test_id("stSidebar").get_by_role("button", name="Secrets").click(timeout=WAIT)
    dialog = page.get_by_role("dialog")
    await expect(dialog.get_by_text("You have none yet.")).to_be_visible(timeout=WAIT)
    await dialog.get_by_role("textbox", name="Name", exact=True).fill("GITHUB_TOKEN")
    await dialog.get_by_role("textbox", name="Sites that may get it").fill("api.github.com")
    value = dialog.get_by_role("textbox", name="Value")
    await expect(value).to_have_attribute("type", "password")
    await value.fill("ghp_canary_0123456789")
    await dialog.get_by_role("button", name="Add").click()
    await expect(dialog.get_by_text("GITHUB_TOKEN is saved")).to_be_visible(timeout=WAIT)
    await expect(value).to_have_value("")
    await expect(dialog.get_by_text("never used")).to_be_visible()
    assert "ghp_canary" not in await page.content()
    found = await world.worker.http.get("/rest/v1/secrets", params={"name": "eq.GITHUB_TOKEN"})
    assert vault.unseal(private, found.json()[0]["ciphertext"]) == "ghp_canary_0123456789"
    await dialog.get_by_role("button", name="Remove").click()
    await dialog.get_by_role("button", name="Remove it").click()
    await expect(dialog.get_by_text("GITHUB_TOKEN is removed.")).to_be_visible(timeout=WAIT)
    assert (await world.worker.http.get("/rest/v1/secrets")).json() == []


PEM = "-----BEGIN PRIVATE KEY-----\nMIIcanary0123456789\nabcdefgh\n-----END PRIVATE KEY-----"


async def test_a_key_of_several_lines_is_typed_unseen_and_kept_with_its_lines(world: World) -> None:
    private = await world.worker.publish_key()
    page = await world.open()
    await page.get_by_test_id("stSidebar").get_by_role("button", name="Secrets").click(timeout=WAIT)
    dialog = page.get_by_role("dialog")
    await dialog.get_by_text("The value has several lines").click(timeout=WAIT)
    value = dialog.get_by_role("textbox", name="Value")
    await expect(value).to_have_js_property("tagName", "TEXTAREA", timeout=WAIT)
    await expect(value).to_have_css("-webkit-text-security", "disc")
    await dialog.get_by_role("textbox", name="Name", exact=True).fill("TLS_KEY")
    await dialog.get_by_role("textbox", name="Sites that may get it").fill("api.example.com")
    await value.fill(PEM)
    await expect(value).to_have_js_property("spellcheck", False)
    await dialog.get_by_role("button", name="Add").click()
    await expect(dialog.get_by_text("TLS_KEY is saved")).to_be_visible(timeout=WAIT)
    await expect(value).to_have_value("")
    await expect(value).to_have_attribute("type", "password")  # one line again
    assert "canary" not in await page.content()
    found = await world.worker.http.get("/rest/v1/secrets", params={"name": "eq.TLS_KEY"})
    assert vault.unseal(private, found.json()[0]["ciphertext"]) == PEM
    await dialog.get_by_role("button", name="Remove").click()
    await dialog.get_by_role("button", name="Remove it").click()
    await expect(dialog.get_by_text("TLS_KEY is removed.")).to_be_visible(timeout=WAIT)


async def test_what_is_typed_into_the_secrets_stays_when_the_whole_page_is_drawn_again(world: World) -> None:
    await world.worker.publish_key()
    page = await world.open()
    await page.get_by_test_id("stSidebar").get_by_role("button", name="Secrets").click(timeout=WAIT)
    dialog = page.get_by_role("dialog")
    name = dialog.get_by_role("textbox", name="Name", exact=True)
    await name.fill("GITHUB_TOKEN")
    unsafe = PlayedWorker(backend=world.supabase)
    await unsafe.appear(sandbox="unsafe")
    await expect(page.get_by_text("code runs without isolation")).to_be_visible(timeout=WAIT)
    await expect(name).to_have_value("GITHUB_TOKEN")
    await unsafe.close()
    await expect(page.get_by_text("code runs without isolation")).to_have_count(0, timeout=WAIT)
    await dialog.get_by_role("textbox", name="Value").fill("ghp_canary_0123456789")
    await dialog.get_by_role("textbox", name="Sites that may get it").fill("*.github.com")
    await dialog.get_by_role("button", name="Add").click()
    await expect(dialog.get_by_role("alert").filter(has_text="has a wildcard")).to_be_visible(timeout=WAIT)
    await page.keyboard.press("Escape")
    await expect(dialog).to_have_count(0)
    await page.get_by_test_id("stSidebar").get_by_role("button", name="Secrets").click()
    await expect(dialog.get_by_role("textbox", name="Name", exact=True)).to_have_value("", timeout=WAIT)
    await expect(dialog.get_by_text("has a wildcard")).to_have_count(0)


async def test_what_code_asked_of_the_internet_and_kept_is_on_the_card(world: World) -> None:
    page = await world.open()
    await ask(page, "Read my issues")
    claim = await world.worker.claim()
    asked = {"host": "api.github.com", "port": 443, "method": "GET", "outcome": "allowed", "status": 200}
    refused = {"host": "evil.example.com", "port": 443, "method": "POST", "outcome": "refused"}
    await world.worker.tell(
        claim,
        (
            "run_started",
            {
                "model": "m",
                "scripted": False,
                "sandbox": "namespaces",
                "limits": {"memory_bytes": 1 << 30, "execution_seconds": 120},
                "hosts": ["api.github.com"],
            },
        ),
        plan("Fetch"),
        *[("egress_requested", asked) for _ in range(30)],
        ("egress_requested", {**refused, "reason": "It is not among the sites of this task."}),
    )
    await world.worker.keep(claim, "by_label", b"{}")
    await expect(page.get_by_text("Internet: 31 requests to 1 site")).to_be_visible(timeout=WAIT)
    # What was refused is open by itself, and stands above what was not.
    await expect(page.get_by_text("It is not among the sites of this task.")).to_be_visible()
    await expect(page.get_by_text("30 times")).to_be_visible()
    await world.worker.finish(claim, "You have 31.", "unverified")
    await page.get_by_text("Worked for").click(timeout=WAIT)
    await expect(
        page.get_by_text("Isolated by Linux namespaces · 1 GiB memory · 2 min per step · 1 site allowed")
    ).to_be_visible(timeout=WAIT)
    await page.get_by_text("Kept for later tasks of this thread: 1 variable").click()
    await expect(page.get_by_text("json.load(open('inputs/saved_by_label.json'))")).to_be_visible(
        timeout=WAIT
    )


async def test_a_failed_task_names_the_sites_that_it_asked_for_in_vain(world: World) -> None:
    page = await world.open()
    await ask(page, "Read the news")
    claim = await world.worker.claim()
    refused = {"host": "news.example.com", "port": 443, "method": "GET", "outcome": "refused"}
    await world.worker.tell(claim, ("egress_requested", {**refused, "reason": "It is not allowed."}))
    await world.worker.fail(claim, "The news could not be read at https://news.example.com/today.")
    alert = page.get_by_test_id("stAlertContainer").filter(has_text="sites that were refused")
    await expect(alert).to_contain_text("news.example.com: It is not allowed.", timeout=WAIT)
    error = page.get_by_test_id("stAlertContainer").filter(has_text="could not be read")
    await expect(error).to_contain_text("at https://news.example.com/today.")
    await expect(error.get_by_role("link")).to_have_count(0)


async def test_a_worker_without_a_sandbox_is_warned_of_and_its_results_are_marked(world: World) -> None:
    page = await world.open()
    unsafe = PlayedWorker(backend=world.supabase)
    await unsafe.appear(sandbox="unsafe", note="PYTHONIC_SANDBOX is unsafe.")
    banner = page.get_by_test_id("stBottomBlockContainer").get_by_test_id("stAlertContainer")
    await expect(banner).to_contain_text("code runs without isolation", timeout=WAIT)
    await ask(page, "Run free")
    claim = await world.worker.claim()
    await world.worker.tell(claim, ("run_started", {"model": "m", "scripted": False, "sandbox": "unsafe"}))
    await world.worker.finish(claim, "Done.", "unverified")
    mark = badge(page, "ran without a sandbox")
    await expect(mark).to_be_visible(timeout=WAIT)
    red, green, _ = map(int, re.findall(r"\d+", await mark.evaluate("e => getComputedStyle(e).color"))[:3])
    assert red > green
    await page.set_viewport_size({"width": 390, "height": 844})
    await expect(banner).to_be_in_viewport()
    assistant = await page.get_by_role("combobox", name="Assistant").bounding_box()
    control = page.get_by_role("button", name="All sites open")
    reach = await control.bounding_box()
    assert assistant is not None
    assert reach is not None
    assert abs(assistant["y"] - reach["y"]) < reach["height"], "they stand on one line"
    await expect(page.get_by_test_id("stChatInputTextArea")).to_be_in_viewport()
    await control.click()
    await expect(page.get_by_text("reaches every site, whatever is allowed here")).to_be_visible(timeout=WAIT)
    await expect(page.get_by_text("code runs without internet")).to_have_count(0)
    await page.keyboard.press("Escape")
    await unsafe.close()
    await expect(page.get_by_role("button", name="No internet")).to_be_visible(timeout=WAIT)
    await expect(banner).to_have_count(0, timeout=WAIT)
    await expect(mark).to_be_visible()  # what was done without a sandbox stays so
