"""Makes sessions by asking a zygote for them."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from pythonic_assistant.adapters.sandbox import interpreter, reach
from pythonic_assistant.adapters.sandbox.channel import Channel
from pythonic_assistant.adapters.sandbox.collect import CollectLimits
from pythonic_assistant.adapters.sandbox.details import details_of
from pythonic_assistant.adapters.sandbox.importable import CURRENT, OWN, modules_in, standard_library
from pythonic_assistant.adapters.sandbox.inputs import OpenInput, close_inputs, open_folder, open_inputs
from pythonic_assistant.adapters.sandbox.inside import frames
from pythonic_assistant.adapters.sandbox.inside.disks import CERTIFICATE
from pythonic_assistant.adapters.sandbox.session import Handles, NamespaceSession
from pythonic_assistant.domain.errors import InvalidInputError, SandboxUnavailableError
from pythonic_assistant.domain.files import InputFile
from pythonic_assistant.domain.limits import LEAST, MOST, SandboxLimits
from pythonic_assistant.ports import NO_ACCESS, Access

_OPEN_SECONDS = 15.0
_OPEN_COLD_SECONDS = 60.0  # of a tier that imports anew for each session: many at once wait for the cores
_RETRY_SECONDS = 0.05
_MOST_SEED = (1 << 63) - 1
_DESCRIPTORS = 3  # scratch folder, init, REPL
_LIMITS = SandboxLimits()


class NamespaceSandbox:
    """Sessions that are asked for at a socket: of a zygote, or of whoever answers in its way.

    Args:
        socket_path: where sessions are asked for.
        tier: what isolates them.
        collect_limits: caps on the files taken out of a session.
        packages: the folder of extra packages that the zygote shows to its sessions.
    """

    def __init__(
        self,
        socket_path: Path,
        *,
        tier: str = "namespaces",
        collect_limits: CollectLimits | None = None,
        packages: Path | None = None,
    ) -> None:
        self._path = socket_path
        self._tier = tier
        self._patience = _OPEN_COLD_SECONDS if tier == "bwrap" else _OPEN_SECONDS
        self._packages = packages
        self._installed: frozenset[str] | None = None
        self._collect_limits = collect_limits or CollectLimits()
        self._details: Mapping[str, str | int] = {}

    @property
    def tier(self) -> str:
        """What isolates."""
        return self._tier

    @property
    def details(self) -> Mapping[str, str | int]:
        """What the zygote told about its walls with the last session: see `details.details_of`."""
        return self._details

    @property
    def socket_path(self) -> Path:
        """Where runners find the same zygote."""
        return self._path

    async def importable(self) -> frozenset[str]:
        """Name what code can import. See `ports.Sandbox.importable`.

        Extra packages are looked at each time, because they change while the sandbox is in use.
        """
        if self._installed is None:
            folders = [Path(folder) for folder in interpreter.site_packages()]
            self._installed = OWN | standard_library() | await asyncio.to_thread(modules_in, folders)
        if self._packages is None:
            return self._installed
        return self._installed | await asyncio.to_thread(modules_in, [self._packages / CURRENT])

    async def open(
        self,
        *,
        inputs: Sequence[InputFile] = (),
        limits: SandboxLimits = _LIMITS,
        seed: int | None = None,
        access: Access = NO_ACCESS,
        folder: Path | None = None,
    ) -> NamespaceSession:
        """Make a session. See `ports.Sandbox.open`.

        Args:
            inputs: files for `inputs/`.
            limits: of the session.
            seed: from 0 to 2**63 - 1. `random` and numpy (its global functions and its `default_rng()`)
                draw from it: the same seed and code give the same numbers. None seeds them from the
                operating system. `secrets`, `uuid4`, the order of sets, and further processes that the
                code starts are not covered.
            access: what it may reach beyond itself.
            folder: seen read-only as the current folder; `/tmp` stays writable.
        """
        _ensure_possible(limits)
        _ensure_seed(seed)
        request: dict[str, Any] = {
            "limits": asdict(limits),
            "seed": seed,
            "environment": reach.environment(access, CERTIFICATE),
            "tools": reach.tools(access.toolbox),
            "certificate": None if access.egress is None else access.egress.certificate,
            "folder": None,
        }
        opened = await asyncio.to_thread(open_inputs, inputs) if inputs else []
        try:
            request["inputs"] = [{"name": entry.name, "path": entry.path} for entry in opened]
            if folder is not None:
                opened.append(await asyncio.to_thread(open_folder, folder, needs_inputs=bool(inputs)))
                request["folder"] = opened[-1].path
            async with asyncio.timeout(self._patience):
                while True:
                    try:
                        return await self._ask(opened, request, limits, access)
                    except (EOFError, ConnectionError, FileNotFoundError):
                        # The zygote has just died; its owner is starting another behind the same socket.
                        await asyncio.sleep(_RETRY_SECONDS)
        except TimeoutError as error:
            raise SandboxUnavailableError(
                f"The sandbox's zygote at {self._path} gave no session within {self._patience:g} seconds. "
                "See whether the worker that owns it is running."
            ) from error
        finally:
            close_inputs(opened)

    async def _ask(
        self,
        inputs: Sequence[OpenInput],
        request: Mapping[str, Any],
        limits: SandboxLimits,
        access: Access,
    ) -> NamespaceSession:
        loop = asyncio.get_running_loop()
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.setblocking(False)
        init = Channel(connection)
        ours, theirs = socket.socketpair()
        control = Channel(ours)
        out_read, out_write = os.pipe()
        err_read, err_write = os.pipe()
        given = [theirs.fileno(), out_write, err_write, *(entry.descriptor for entry in inputs)]
        expected = _DESCRIPTORS + (access.egress is not None)
        descriptors: list[int] = []
        try:
            try:
                await loop.sock_connect(connection, str(self._path))
                await init.send(request, given)
            finally:
                # Now only the session holds these ends: their closing tells that it ended.
                theirs.close()
                os.close(out_write)
                os.close(err_write)
            try:
                answer, descriptors = await init.receive_with_descriptors(expected)
            except frames.FrameError as error:
                raise SandboxUnavailableError("The sandbox's zygote sent an unreadable message.") from error
            _ensure_ready(answer, descriptors, expected)
            self._details = details_of(answer)
        except BaseException:
            init.close()
            control.close()
            for descriptor in (out_read, err_read, *descriptors):
                os.close(descriptor)
            raise
        scratch, init_process, code_process = descriptors[:_DESCRIPTORS]
        way_out = None
        if access.egress is not None:
            way_out = reach.WayOut(access.egress, socket.socket(fileno=descriptors[_DESCRIPTORS]))
        for pipe in (out_read, err_read):
            os.set_blocking(pipe, False)
        handles = Handles(
            init=init,
            control=control,
            stdout=out_read,
            stderr=err_read,
            scratch=scratch,
            init_process=init_process,
            code_process=code_process,
        )
        session = NamespaceSession(
            handles, limits, self._collect_limits, toolbox=access.toolbox, way_out=way_out
        )
        try:
            if way_out is not None:
                await way_out.open()
        except BaseException:
            await session.close()
            raise
        return session


def _ensure_possible(limits: SandboxLimits) -> None:
    for entry in fields(limits):
        value = getattr(limits, entry.name)
        least = LEAST[entry.name]
        if not least <= value <= MOST:
            raise InvalidInputError(f"The sandbox limit {entry.name}={value} must be at least {least}.")


def _ensure_seed(seed: int | None) -> None:
    if seed is not None and not 0 <= seed <= _MOST_SEED:
        raise InvalidInputError(f"The sandbox seed {seed} must be from 0 to {_MOST_SEED}.")


def _ensure_ready(answer: dict[str, Any], descriptors: Sequence[int], expected: int) -> None:
    if answer.get("event") != "ready" or len(descriptors) != expected:
        reason = str(answer.get("error") or "no reason was given").strip().splitlines()[-1]
        raise SandboxUnavailableError(f"The sandbox could not make a session: {reason}")
