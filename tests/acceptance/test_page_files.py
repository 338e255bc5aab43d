"""Files on the page: taken, refused with a reason, and what is typed is kept."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from tests.acceptance.browser import WAIT, World, ask


async def test_an_upload_goes_with_the_task(world: World) -> None:
    page = await world.open()
    await (
        page.get_by_test_id("stChatInputFileUploadButton")
        .locator("input[type=file]")
        .set_input_files({"name": "Zahlen über alles.csv", "mimeType": "text/csv", "buffer": b"a\n1\n"})
    )
    await page.get_by_text("4.0B").wait_for(timeout=WAIT)
    await ask(page, "Sum the column")
    claim = await world.worker.claim()
    [given] = claim.inputs
    assert given["name"] == "Zahlen über alles.csv"
    assert given["bytes"] == 4
    content = await world.worker.http.get(f"/storage/v1/object/artifacts/{given['storage_path']}")
    assert content.content == b"a\n1\n"
    await world.worker.finish(claim, "1", "unverified")


async def attach(page: Page, *files: Path) -> None:
    await (
        page.get_by_test_id("stChatInputFileUploadButton")
        .locator("input[type=file]")
        .set_input_files([str(file) for file in files])
    )
    await expect(page.get_by_test_id("stFileChip")).to_have_count(len(files), timeout=WAIT)


async def test_why_something_is_not_sent_is_said_and_stays(world: World, tmp_path: Path) -> None:
    page = await world.open()
    box = page.get_by_test_id("stChatInputTextArea")
    alert = page.get_by_test_id("stBottomBlockContainer").get_by_test_id("stAlertContainer")
    (tmp_path / "empty.csv").touch()
    await attach(page, tmp_path / "empty.csv")
    await ask_in_vain(page, "Sum the column")
    await expect(alert).to_contain_text("The file empty.csv is empty", timeout=WAIT)
    await expect(alert).to_have_attribute("role", "alert")  # read out at once
    await expect(box).to_have_value("Sum the column")
    await page.get_by_role("button", name="Dismiss").click()
    await expect(alert).to_have_count(0, timeout=WAIT)
    # Streamlit would send this one without its file.
    (tmp_path / "large.csv").write_bytes(bytes(51 * 1024 * 1024))
    await attach(page, tmp_path / "large.csv")
    await box.press("Enter")
    await expect(alert).to_contain_text("“large.csv” could not be attached", timeout=WAIT)
    await expect(alert).to_contain_text("50")
    await page.get_by_test_id("stChatInputSubmitButton").click()
    await expect(box).to_have_value("Sum the column")
    with pytest.raises(AssertionError, match="no task was queued"):
        await world.worker.claim(seconds=0.5)
    await page.get_by_test_id("stFileChipDeleteBtn").get_by_role("button").click()
    await box.fill("x" * 20_001)
    await box.press("Enter")
    await expect(alert).to_contain_text("20,001 characters", timeout=WAIT)
    await expect(box).to_have_value("x" * 20_001)
    await ask(page, "Sum nothing")
    await expect(alert).to_have_count(0, timeout=WAIT)
    claim = await world.worker.claim()
    assert claim.inputs == []
    await world.worker.finish(claim, "0", "unverified")


async def test_a_thread_deleted_in_another_tab_is_told_and_the_text_kept(world: World) -> None:
    page = await world.open()
    await ask(page, "Soon to be deleted")
    claim = await world.worker.claim()
    await world.worker.finish(claim, "Here it is.", "unverified")
    await expect(page.get_by_text("Here it is.")).to_be_visible(timeout=WAIT)
    deleted = await world.worker.http.delete("/rest/v1/threads", params={"title": "eq.Soon to be deleted"})
    assert deleted.status_code < 300
    await ask_in_vain(page, "And now?")
    alert = page.get_by_test_id("stBottomBlockContainer").get_by_test_id("stAlertContainer")
    await expect(alert).to_contain_text("This thread does not exist", timeout=WAIT)
    await expect(page.get_by_test_id("stChatInputTextArea")).to_have_value("And now?")


async def ask_in_vain(page: Page, prompt: str) -> None:
    """Type and send something that comes back."""
    box = page.get_by_test_id("stChatInputTextArea")
    await box.fill(prompt)
    await expect(page.get_by_test_id("stChatInputSubmitButton")).to_be_enabled(timeout=WAIT)
    await box.press("Enter")
