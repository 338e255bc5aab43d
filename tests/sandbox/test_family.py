"""How session init knows its own processes while some of them come and go."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROUNDS = 600
# As a checkpoint is made: the one in between ends, and is collected, while init asks.
HANDED_OVER = f"""
import os, time
from pythonic_assistant.adapters.sandbox.inside import family
from pythonic_assistant.adapters.sandbox.inside.syscalls import PR_SET_CHILD_SUBREAPER, prctl
prctl(PR_SET_CHILD_SUBREAPER, 1)
(told, tell), (go, let) = os.pipe(), os.pipe()
if os.fork() == 0:
    os.close(let)
    while os.read(go, 1):
        if (between := os.fork()) == 0:
            if os.fork():
                os._exit(0)
            os.write(tell, b"%8d" % os.getpid())
            time.sleep(0.05)
            os._exit(0)
        os.waitpid(between, 0)
    os._exit(0)
disowned = 0
for _ in range({ROUNDS}):
    os.write(let, b".")
    disowned += not family.holds(int(os.read(told, 8)))
foreign = family.holds(os.getppid()) or family.holds(1) or family.holds(os.getpid())
print(disowned, foreign)
"""


def test_a_process_is_known_while_its_parent_ends() -> None:
    done = subprocess.run(
        [sys.executable, "-c", HANDED_OVER],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == "0 False\n"
