"""The interpreter may live anywhere, also in places that a session covers or in a folder that holds keys."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

PROGRAMME = """
import asyncio, sys
from pathlib import Path
from pythonic_assistant.adapters.sandbox import zygote_sandbox
CODE = '''
import pathlib, subprocess, sys
print(subprocess.run([sys.executable, "-c", "import sys, own; print(sys.prefix, own.x)"],
                     capture_output=True, text=True))
import own
print(own.x, sorted(p.name for p in pathlib.Path({prefix!r}).iterdir()))
pathlib.Path("/tmp/own.txt").write_text("writable")
'''
async def main():
    async with zygote_sandbox() as sandbox, await sandbox.open() as session:
        result = await session.execute(CODE.format(prefix=sys.prefix), timeout=20)
        print(result.outcome, result.error, result.stdout)
asyncio.run(main())
"""


PLAIN = """
import asyncio
from pythonic_assistant.adapters.sandbox import zygote_sandbox
async def main():
    async with zygote_sandbox() as sandbox, await sandbox.open() as session:
        result = await session.execute("open('/dev/null', 'w').write('x'); print(1 + 1)", timeout=20)
        print(result.outcome, result.stdout.strip())
asyncio.run(main())
"""


def test_environment_below_tmp_that_is_a_project_with_keys() -> None:
    with tempfile.TemporaryDirectory(prefix="pythonic-test-", dir="/tmp") as made:
        project = Path(made)
        project.chmod(0o755)
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(project)], check=True)
        (project / ".env").write_text("KEY=secret")
        packages = next(project.glob("lib/python*/site-packages"))
        (packages / "own.py").write_text("x = 'own'")
        (packages / "editable.pth").write_text(f"{ROOT}\n")
        done = subprocess.run(
            [str(project / "bin" / "python"), "-c", PROGRAMME],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.stdout.startswith("ok "), done.stdout + done.stderr
    assert f"stdout='{project} own\\n'" in done.stdout
    listed = done.stdout.rpartition("own [")[2]
    assert "'bin'" in listed
    assert ".env" not in listed


def test_an_owner_whose_files_are_private() -> None:
    """A worker's umask keeps its files to itself; the root of its sessions is readable all the same."""
    ended = subprocess.run(
        [sys.executable, "-c", f"import os; os.umask(0o077)\n{PLAIN}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.stdout.strip() == "ok 2", ended.stderr
