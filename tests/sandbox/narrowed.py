"""A host that forbids more than this one: runs a tier choice under a filter that refuses system calls.

`python narrowed.py WANTED CALL,CALL...` prints tier, note and what a session computes, or the refusal.
"""

from __future__ import annotations

import asyncio
import ctypes
import platform
import struct
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from pythonic_assistant.adapters.sandbox import open_sandbox
from pythonic_assistant.adapters.sandbox.inside import seccomp, syscalls
from pythonic_assistant.domain.errors import SandboxUnavailableError

_COLUMN = {"x86_64": 0, "aarch64": 1}[platform.machine()]
CALLS = {
    "unshare": (272, 97),
    "mount": (165, 40),
    "landlock_create_ruleset": (444, 444),
}
_EPERM = 1


def refuse(names: list[str]) -> None:
    """Refuse some calls with EPERM from now on, in this process and all that it starts."""
    code = seccomp.Program()
    code.load(seccomp._NR)
    for name in names:
        code.answer_if(seccomp.JUMP_EQUAL, CALLS[name][_COLUMN], seccomp._ERRNO | _EPERM)
    code.answer(seccomp._ALLOW)
    instructions, count = code.assembled()
    buffer = ctypes.create_string_buffer(instructions, len(instructions))
    header = ctypes.create_string_buffer(struct.pack("@HP", count, ctypes.addressof(buffer)), 16)
    zero = ctypes.c_ulong(0)
    syscalls.checked(
        int(syscalls.LIBC.prctl(syscalls.PR_SET_SECCOMP, ctypes.c_ulong(2), header, zero, zero)), "seccomp"
    )


async def main(wanted: str) -> None:
    try:
        async with open_sandbox(wanted=wanted) as sandbox:  # type: ignore[arg-type]
            print(f"TIER {sandbox.tier}")
            print(f"NOTE {sandbox.note}")
            async with await sandbox.open() as session:
                print("GOT", (await session.execute("6 * 7", timeout=10)).value)
    except SandboxUnavailableError as error:
        print(f"REFUSED {error}")


if __name__ == "__main__":
    # Without it, only root may install a filter; bwrap and the zygote set it in any case.
    syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    refuse([name for name in sys.argv[2].split(",") if name])
    asyncio.run(main(sys.argv[1]))
