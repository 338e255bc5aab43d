"""The model of the drill: a step with a mistake, a step that acts outside, a file, a variable, a check.

`Gates` holds a request of the model back, so that somebody can be killed while it is being answered.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence

from tests.servers.script import Answer, Code, Data, Heard, Words

HOST = "drill.example.org"
_PROMPT = re.compile(r"drill (\d+) (quiet|asking)( held)?")
_HELD_SECONDS = 60.0
_ANSWER_SECONDS = 6.0
COUNT = "numbers = list(range({number}, {number} + 10))\nprint('first', numbers[0])\ntotal = sum(numbers)"
MISTAKE = "print('begun')\nvalue = totl + 1"
ACT = """\
import json, urllib.error, urllib.request
print('acting', flush=True)
body = json.dumps({{"number": {number}, "what": "request"}}).encode()
asked = urllib.request.Request("http://{host}/requests/{number}{query}", data=body, method="POST",
    headers={{"Content-Type": "application/json"}})
try:
    with urllib.request.urlopen(asked, timeout=60) as answer:
        status = answer.status
except urllib.error.HTTPError as error:
    status = error.read().decode()  # the answer is lost, but somebody has seen that it happened
    if 'has seen that this happened' not in status:
        raise
told = send_message(to="n{number}", text="message")
value = total + 1
print('acted', status)
"""
FILE = """\
import pathlib
pathlib.Path('result.csv').write_text(f'value\\n{value}\\n')
print('written')
"""


def prompt(number: int, kind: str) -> str:
    """What the person asks."""
    return f"drill {number} {kind}"


class Gates:
    """Where requests of the model stop."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._closed: dict[tuple[int, str], tuple[threading.Event, threading.Event]] = {}

    def close(self, number: int, place: str) -> None:
        """Stop the next request of this kind of a task."""
        with self._lock:
            self._closed[number, place] = (threading.Event(), threading.Event())

    def reached(self, number: int, places: Sequence[str]) -> str | None:
        """The place at which a request of the task waits now."""
        with self._lock:
            for place in places:
                events = self._closed.get((number, place))
                if events is not None and events[0].is_set():
                    return place
        return None

    def open(self, number: int, place: str) -> None:
        """Let it go on, and all later ones pass."""
        with self._lock:
            events = self._closed.pop((number, place), None)
        if events is not None:
            events[1].set()

    def script(self, heard: Heard) -> Answer:
        """Answer a request.

        Raises:
            LookupError: it is of no task of the drill.
        """
        if heard.wants == "text":
            return Words(text="ready")
        found = _PROMPT.search(heard.everything)
        if found is None:
            raise LookupError("not a task of the drill")
        number = int(found.group(1))
        place, answer = _answer(number, heard, held=bool(found.group(3)))
        with self._lock:
            events = self._closed.get((number, place))
        if events is not None:
            events[0].set()
            events[1].wait(_HELD_SECONDS)
        return answer


def _answer(number: int, heard: Heard, *, held: bool) -> tuple[str, Answer]:
    # The effect server has counted it and holds its answer back, so that there is time to kill somebody.
    query = f"?delay={_ANSWER_SECONDS:g}&once" if held else ""
    act = ACT.format(number=number, host=HOST, query=query)
    if heard.wants == "code":
        if "Goal: count" in heard.last:
            return "model asked for code", Code(code=COUNT.format(number=number))
        if "Goal: act" in heard.last:
            return "model asked for code", Code(code=MISTAKE)
        if "Goal: file" in heard.last:
            return "model asked for code", Code(code=FILE)
        return "model asked for a fix", Code(code=act)
    if "All steps are done." in heard.last:
        value = sum(range(number, number + 10)) + 1
        check = {"claim": "The value is the sum and one", "code": f"assert value == {value}, value"}
        return "model asked for the answer", Data(data={"answer": f"{value}", "checks": [check]})
    steps = [
        {"id": "s1", "title": "Count", "goal": "count", "proof": "printed", "depends_on": []},
        {"id": "s2", "title": "Act", "goal": "act", "proof": "printed", "depends_on": ["s1"]},
        {"id": "s3", "title": "File", "goal": "file", "proof": "printed", "depends_on": ["s2"]},
    ]
    return "model asked for a plan", Data(data={"steps": steps})
