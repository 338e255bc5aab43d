"""The rules for sessions without namespaces, run as the kernel would, for both machines."""

from __future__ import annotations

import struct

import pytest

from pythonic_assistant.adapters.sandbox.inside import bare_filter, seccomp

ALLOW, REFUSE, IGNORE = 0x7FFF0000, 0x00050001, 0x00050000
ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}


def _answer(machine: str, rules: bare_filter.Bare, number: int, *arguments: int) -> int:
    data = struct.pack("<IIQ6Q", number, ARCHITECTURES[machine], 0, *[*arguments, 0, 0, 0, 0, 0, 0][:6])
    code, _ = seccomp.program(machine, rules)
    place = accumulator = 0
    while True:
        operation, then, otherwise, value = struct.unpack_from("HBBI", code, 8 * place)
        place += 1
        if operation == 0x20:
            accumulator = struct.unpack_from("<I", data, value)[0]
        elif operation == 0x54:
            accumulator &= value
        elif operation == 0x06:
            return int(value)
        else:
            true = {
                0x15: accumulator == value,
                0x35: accumulator >= value,
                0x45: bool(accumulator & value),
            }[operation]
            place += then if true else otherwise


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize("own_user", [True, False])
@pytest.mark.parametrize("landlock", [1, 3, 5, 6])
def test_rules_answer(machine: str, own_user: bool, landlock: int) -> None:
    rules = bare_filter.Bare(process=77, own_user=own_user, landlock=landlock)
    column = {"x86_64": 0, "aarch64": 1}[machine]

    def ask(row: tuple[int | None, int | None], *arguments: int) -> int:
        number = row[column]
        assert number is not None
        return _answer(machine, rules, number, *arguments)

    def of(table: dict[str, bare_filter.Row]) -> set[int]:
        return {ask(row) for row in table.values() if row[column] is not None}

    old = landlock < 6
    assert of(bare_filter.REFUSED) == {REFUSE}
    assert of(seccomp.REFUSED) == {REFUSE}
    assert of(bare_filter.REFUSED_AS_OWNER) == {ALLOW if own_user else REFUSE}
    assert of(bare_filter.IGNORED_AS_OWNER) == {ALLOW if own_user else IGNORE}
    assert of(bare_filter.REFUSED_SIGNALS) == {REFUSE if old else ALLOW}
    assert of(bare_filter.REFUSED_TRUNCATION) == {REFUSE if landlock < 3 else ALLOW}
    for kill in ((62, 129), (234, 131)):
        assert ask(kill, 77, 9) == ALLOW
        for other in (1, 0, 0xFFFFFFFF, 78):
            assert ask(kill, other, 9) == (REFUSE if old else ALLOW)
    fcntl, ioctl, prctl, pair = (72, 25), (16, 29), (157, 167), (53, 199)
    assert ask(fcntl, 3, 3) == ask(fcntl, 3, 4) == ALLOW
    assert {ask(fcntl, 3, command) for command in (8, 10, 15)} == {REFUSE if old else ALLOW}
    assert {ask(fcntl, 3, command) for command in (1024, 1026)} == {REFUSE}
    assert {ask(ioctl, 3, request) for request in (0x8901, 0x8902, 0x5452)} == {REFUSE if old else ALLOW}
    assert ask(ioctl, 3, 0x40086602) == (ALLOW if own_user else REFUSE)
    assert ask(ioctl, 3, 0x5412) == REFUSE
    assert (ask(prctl, 4, 0), ask(prctl, 15, 0)) == (REFUSE, ALLOW)
    limits, priority = (302, 261), (141, 140)
    assert (ask(limits, 0, 7), ask(limits, 5, 7)) == (ALLOW, REFUSE)
    assert (ask(priority, 0, 0), ask(priority, 0, 5), ask(priority, 2, 0)) == (ALLOW, REFUSE, REFUSE)
    for kind, answer in ((1, ALLOW), (5, ALLOW), (1 | 0x80800, ALLOW), (2, REFUSE), (2 | 0x80000, REFUSE)):
        assert ask(pair, 1, kind) == answer
    assert ask(pair, 2, 1) == REFUSE


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_numbers_differ(machine: str) -> None:
    column = {"x86_64": 0, "aarch64": 1}[machine]
    tables = (
        seccomp.REFUSED,
        bare_filter.REFUSED,
        bare_filter.REFUSED_AS_OWNER,
        bare_filter.IGNORED_AS_OWNER,
        bare_filter.REFUSED_SIGNALS,
        bare_filter.REFUSED_TRUNCATION,
    )
    numbers = [row[column] for table in tables for row in table.values() if row[column] is not None]
    assert len(numbers) == len(set(numbers))
