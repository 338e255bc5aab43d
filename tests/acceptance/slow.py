"""A script for tests that break things in the middle: a quick step, a slow one, an answer that is checked.

The prompt tells how slow: "slow task <word> <seconds>".
"""

from __future__ import annotations

import re

from tests.servers.script import Answer, Code, Data, Heard, Words

_PROMPT = re.compile(r"slow task (\w+) ([\d.]+)")


def prompt(word: str, seconds: float) -> str:
    return f"slow task {word} {seconds:g}"


def script(heard: Heard) -> Answer:
    if heard.wants == "text":
        return Words(text="ready")
    found = _PROMPT.search(heard.everything)
    if found is None:
        raise LookupError("not a slow task")
    word, seconds = found.groups()
    if heard.wants == "code":
        if heard.last.rstrip().endswith("Write the Python for this step.") and "Goal: quick" in heard.last:
            return Code(code=f"word = {word!r}\nletters = list(word)\nprint('quick', len(letters))")
        return Code(
            code=f"import time\nprint('begin', flush=True)\ntime.sleep({seconds})\n"
            "total = len(letters)\nprint('total', total)"
        )
    if "All steps are done." in heard.last:
        return Data(
            data={
                "answer": f"{word} has {len(word)} letters.",
                "checks": [
                    {"claim": "The letters are counted", "code": f"assert len({word!r}) == total, total"}
                ],
            }
        )
    return Data(
        data={
            "steps": [
                {"id": "s1", "title": "Quick", "goal": "quick", "proof": "printed", "depends_on": []},
                {"id": "s2", "title": "Slow", "goal": "slow", "proof": "printed", "depends_on": ["s1"]},
            ]
        }
    )
