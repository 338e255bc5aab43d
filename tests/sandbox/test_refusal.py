"""A host that cannot isolate is told so, with what to do; nothing runs without walls."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from pythonic_assistant.adapters.sandbox import connect_sandbox, zygote_sandbox
from pythonic_assistant.adapters.sandbox.inside import seccomp
from pythonic_assistant.adapters.sandbox.probe import ensure_isolated
from pythonic_assistant.domain.errors import SandboxUnavailableError
from pythonic_assistant.domain.execution import Execution

ROOT = Path(__file__).resolve().parents[2]

# As in a container: the filter that sessions get also refuses to make namespaces.
WITHOUT_NAMESPACES = """
import asyncio
from pythonic_assistant.adapters.sandbox import zygote_sandbox
from pythonic_assistant.adapters.sandbox.inside import seccomp, syscalls
from pythonic_assistant.domain.errors import SandboxUnavailableError
syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
seccomp.install()
async def main():
    try:
        async with zygote_sandbox():
            print("RAN")
    except SandboxUnavailableError as error:
        print(error)
asyncio.run(main())
"""


class _Session:
    def __init__(self, execution: Execution) -> None:
        self.execution = execution
        self.closed = False

    async def execute(self, code: str, *, timeout: float, on_output: object = None) -> Execution:
        compile(code, "probe", "exec")
        return self.execution

    async def close(self) -> None:
        self.closed = True


class _Sandbox:
    """Stands in for a sandbox whose walls have a hole."""

    def __init__(self, execution: Execution) -> None:
        self.session = _Session(execution)

    async def open(self, **_: object) -> _Session:
        return self.session


NAMES = (
    *("read_secret", "read_environment", "connect", "unshare", "vsock", "netlink", "signal_host"),
    *("limit_host", "trace", "write_outside", "raise_limit"),
)


def test_host_without_namespaces_is_told_what_to_do() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_NAMESPACES], cwd=ROOT, capture_output=True, text=True, timeout=30
    )
    assert "RAN" not in done.stdout
    assert done.stdout.startswith("This host cannot isolate generated code, so none will be run."), (
        done.stderr
    )
    assert "Operation not permitted" in done.stdout
    assert "Do ONE of these:\n  (a) " in done.stdout


@pytest.mark.parametrize("name", NAMES)
async def test_a_single_hole_is_enough_to_refuse(name: str) -> None:
    results = dict.fromkeys(NAMES) | {name: "got through"}
    sandbox = _Sandbox(Execution(outcome="ok", stdout=json.dumps(results)))
    with pytest.raises(SandboxUnavailableError, match="does not isolate on this host"):
        await ensure_isolated(sandbox)  # type: ignore[arg-type]  # the stand-in has no more than is used
    assert sandbox.session.closed


@pytest.mark.parametrize(
    ("execution", "words"),
    [
        (Execution(outcome="ok", stdout=json.dumps({"vsock": None})), "no answer for"),
        (Execution(outcome="ok", stdout="rubbish"), "did not finish"),
        (Execution(outcome="error", error="ImportError: numpy"), "ImportError: numpy"),
        (Execution(outcome="died", error="It ended."), "It ended"),
    ],
)
async def test_self_test_without_a_proof_refuses(execution: Execution, words: str) -> None:
    with pytest.raises(SandboxUnavailableError, match=words):
        await ensure_isolated(_Sandbox(execution))  # type: ignore[arg-type]


@pytest.mark.parametrize(("platform", "name"), [("darwin", "macOS"), ("win32", "Windows")])
async def test_other_systems_get_a_sentence(
    platform: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    with pytest.raises(SandboxUnavailableError, match=name):
        async with zygote_sandbox():
            pytest.fail("it started")
    with pytest.raises(SandboxUnavailableError, match="Linux"):
        connect_sandbox(Path("/nowhere"))


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_filter_is_well_formed(machine: str) -> None:
    """Every jump stays inside the programme, every path ends in an answer, and the call numbers differ."""
    code, count = seccomp.program(machine)
    lines = [struct.unpack_from("HBBI", code, 8 * index) for index in range(count)]
    assert len(code) == 8 * count < 8 * 4096
    for index, (operation, then, otherwise, _) in enumerate(lines):
        if operation in (0x15, 0x35, 0x45):
            assert index + 1 + max(then, otherwise) < count
    assert lines[-1][0] == 0x06
    column = {"x86_64": 0, "aarch64": 1}[machine]
    numbers = [row[column] for row in seccomp.REFUSED.values() if row[column] is not None]
    assert len(numbers) == len(set(numbers))


def _answer(machine: str, number: int, *arguments: int, arch: int | None = None) -> int:
    """Run the filter as the kernel would."""
    arch = seccomp._AUDIT_ARCH[machine] if arch is None else arch
    data = struct.pack("<IIQ6Q", number, arch, 0, *[*arguments, 0, 0, 0, 0, 0, 0][:6])
    code, _ = seccomp.program(machine)
    place = accumulator = 0
    while True:
        operation, then, otherwise, value = struct.unpack_from("HBBI", code, 8 * place)
        place += 1
        if operation == 0x20:
            accumulator = struct.unpack_from("<I", data, value)[0]
        elif operation == 0x06:
            return value
        else:
            true = {
                0x15: accumulator == value,
                0x35: accumulator >= value,
                0x45: bool(accumulator & value),
            }[operation]
            place += then if true else otherwise


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_filter_answers(machine: str) -> None:
    """Both machines' filters, run by an interpreter of our own: the table of the other one is tried, too."""
    allow, refuse, unknown, kill = 0x7FFF0000, 0x00050001, 0x00050026, 0x80000000
    clone, sock, ioctl = seccomp._CLONE[machine], seccomp._SOCKET[machine], seccomp._IOCTL[machine]
    column = {"x86_64": 0, "aarch64": 1}[machine]
    for row in seccomp.REFUSED.values():
        if (number := row[column]) is not None:
            assert _answer(machine, number) == refuse
    read, write = {"x86_64": (0, 1), "aarch64": (63, 64)}[machine]
    assert _answer(machine, read) == _answer(machine, write) == allow
    assert _answer(machine, read, arch=0x40000003) == kill
    assert _answer(machine, 435) == _answer(machine, 470) == _answer(machine, 9999) == unknown
    assert _answer(machine, clone, 17) == allow
    for flag in (0x80, 0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000):
        assert _answer(machine, clone, flag | 17) == refuse
    for family in range(60):
        assert _answer(machine, sock, family) == (allow if family in (1, 2, 10) else refuse)
    assert _answer(machine, ioctl, 0, 0x5412) == _answer(machine, ioctl, 0, 0x541C) == refuse
    assert _answer(machine, ioctl, 0, 0x5401) == allow
