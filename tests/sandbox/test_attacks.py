"""Attempts to reach anything outside of the session."""

from __future__ import annotations

import os
import platform
import socket
from pathlib import Path

import pytest

from pythonic_assistant.adapters.sandbox.inside.seccomp import REFUSED
from pythonic_assistant.adapters.sandbox.sandbox import NamespaceSandbox
from pythonic_assistant.adapters.sandbox.session import NamespaceSession
from tests.sandbox import attacks

pytestmark = pytest.mark.asyncio(loop_scope="session")

_COLUMN = {"x86_64": 0, "aarch64": 1}[platform.machine()]
_CLONE = {"x86_64": 56, "aarch64": 220}[platform.machine()]


def _numbers() -> dict[str, int | None]:
    return {name: row[_COLUMN] for name, row in REFUSED.items()} | {"clone": _CLONE}


@pytest.mark.parametrize("name", sorted(attacks.ALL))
async def test_attempt_is_stopped(
    name: str, session: NamespaceSession, sandbox: NamespaceSandbox, tmp_path: Path
) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("the host's secret")
    abstract = f"pythonic-test-{os.getpid()}"
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket(socket.AF_UNIX) as named:
        named.bind("\0" + abstract)
        named.listen()
        body = attacks.ALL[name].format(
            **_numbers(),
            secret=str(secret),
            checkout=str(Path(__file__).parents[2]),
            socket_folder=str(sandbox.socket_path.parent),
            socket_path=str(sandbox.socket_path),
            pid=os.getpid(),
            port=listener.getsockname()[1],
            abstract=abstract,
        )
        result = await session.execute(attacks.programme(body), timeout=5)
        listener.settimeout(0)
        with pytest.raises(BlockingIOError):
            listener.accept()
    assert result.outcome == "ok", result.error
    assert result.stdout.startswith("HELD"), result.stdout


async def test_foreign_calling_convention_is_killed(session: NamespaceSession) -> None:
    """32-bit calls have other numbers: getpid by int 0x80 would pass any filter that reads them wrongly."""
    if platform.machine() != "x86_64":
        return  # there is no such instruction elsewhere
    code = """
import ctypes, mmap
page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
page.write(bytes([0xB8, 20, 0, 0, 0, 0xCD, 0x80, 0xC3]))  # mov eax, 20; int 0x80; ret
call = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))
print("ESCAPED", call())
"""
    result = await session.execute(code, timeout=5)
    assert result.outcome == "died"
    assert "SIGSYS" in result.error
    assert "ESCAPED" not in result.stdout


async def test_session_has_no_privileges_at_all(session: NamespaceSession) -> None:
    result = await session.execute(
        "fields = dict(l.split(':', 1) for l in open('/proc/self/status').read().splitlines() if ':' in l)\n"
        "[int(fields[n], 16) for n in ('CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb')], "
        "fields['NoNewPrivs'].strip(), fields['Seccomp'].strip()",
        timeout=5,
    )
    assert result.value == "([0, 0, 0, 0, 0], '1', '2')"


async def test_environment_is_empty_of_the_host(session: NamespaceSession) -> None:
    os.environ["PYTHONIC_TEST_SECRET"] = "not for sessions"
    try:
        result = await session.execute("import os; sorted(os.environ)", timeout=5)
        from_kernel = await session.execute("open('/proc/self/environ').read()", timeout=5)
    finally:
        del os.environ["PYTHONIC_TEST_SECRET"]
    assert "'HOME'" in result.value
    for name in ("PYTHONIC_TEST_SECRET", "OPENAI_API_KEY", "SUPABASE_SECRET_KEY", "PYTEST_CURRENT_TEST"):
        assert name not in result.value
        assert name not in from_kernel.value


async def test_descriptors_are_only_its_own(session: NamespaceSession) -> None:
    result = await session.execute(
        "import os\nsorted(os.readlink(f'/proc/self/fd/{n}').split(':')[0] "
        "for n in os.listdir('/proc/self/fd') "
        "if os.path.lexists(f'/proc/self/fd/{n}'))",
        timeout=5,
    )
    # null twice (descriptor 0, and sys.stdin), two pipes, the control socket
    assert result.value == "['/dev/null', '/dev/null', 'pipe', 'pipe', 'socket', 'socket']"


async def test_random_numbers_differ_between_sessions(sandbox: NamespaceSandbox) -> None:
    values = []
    for _ in range(2):
        made = await sandbox.open()
        values.append(
            (
                await made.execute("import random, numpy\nrandom.random(), numpy.random.rand()", timeout=5)
            ).value
        )
        await made.close()
    first, second = (eval(value, {"np": None}) if "np." not in value else value for value in values)
    assert first != second
