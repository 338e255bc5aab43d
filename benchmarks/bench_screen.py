"""From a line that generated code prints to its appearance on an open page, with everything running.

`python -m benchmarks.bench_screen [lines]`. Code in the sandbox prints the time in milliseconds, four times a
second. The line goes to the runner, the worker, the database, over Realtime to the page's server, over its
socket to headless Chromium, and is drawn; a MutationObserver notes when it stands in the document. Both
clocks are this machine's. The code waits two seconds first, until the page shows the task's card: opening it
after the click takes most of a second, which is not what is measured here.

There is a goal and no peer: what polling would cost can be computed, but was not measured here.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from playwright.sync_api import sync_playwright

from benchmarks.report import Figure, against_goal, percentile, report
from tests.acceptance.stack import running_stack
from tests.servers.openai_server import TEST_MODEL, OpenAIServer
from tests.servers.script import Answer, Code, Data, Heard

PAUSE_SECONDS = 0.25
OBSERVE = """() => {
  window.marks = {};
  const look = () => {
    for (const [, mark] of document.body.innerText.matchAll(/MARK (\\d+)/g))
      window.marks[mark] ??= Date.now() - Number(mark);
  };
  new MutationObserver(look).observe(document.body, {childList: true, subtree: true, characterData: true});
}"""


def _script(lines: int) -> Callable[[Heard], Answer]:
    code = (
        "import time\ntime.sleep(2)\n"
        f"for number in range({lines}):\n"
        "    print('MARK', int(time.time() * 1000), flush=True)\n"
        f"    time.sleep({PAUSE_SECONDS})\n"
        "total = 2"
    )

    def answer(heard: Heard) -> Answer:
        if heard.wants == "code":
            return Code(code=code)
        if "All steps are done." in heard.last:
            return Data(data={"answer": "2", "checks": [{"claim": "2", "code": "assert total == 2"}]})
        step: dict[str, object] = {"id": "s1", "title": "Print", "goal": "p", "proof": "p", "depends_on": []}
        return Data(data={"steps": [step]})

    return answer


def main() -> None:
    """Measure, print, write."""
    lines = int(sys.argv[1]) if len(sys.argv) > 1 else 80
    settings = {"OPENAI_API_KEY": "sk-bench", "PYTHONIC_MODEL": TEST_MODEL}
    with (
        OpenAIServer(_script(lines), key="sk-bench") as server,
        running_stack({**settings, "OPENAI_BASE_URL": server.url}) as stack,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium",
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        page = browser.new_page()
        page.goto(stack.page)
        page.get_by_role("button", name="Open as local user").click(timeout=20_000)
        box = page.get_by_test_id("stChatInputTextArea")
        box.fill("print", timeout=20_000)
        page.evaluate(OBSERVE)
        box.press("Enter")
        deadline = time.monotonic() + lines * PAUSE_SECONDS + 22
        times: list[float] = []
        while len(times) < lines and time.monotonic() < deadline:
            page.wait_for_timeout(500)
            times = list(page.evaluate("Object.values(window.marks)"))
        browser.close()
    if len(times) < lines:
        raise SystemExit(f"Only {len(times)} of {lines} lines were seen.")
    report(
        "screen",
        [
            Figure(name="printed → on screen p50", value=round(percentile(times, 50), 1), unit="ms"),
            against_goal("printed → on screen p95", percentile(times, 95), "ms", 500),
        ],
    )


if __name__ == "__main__":
    main()
