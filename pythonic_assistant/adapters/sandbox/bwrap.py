"""Tier bwrap: boxes that bubblewrap walls in, where only it may make namespaces."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from pythonic_assistant.adapters.sandbox import bwrap_command, diagnosis, interpreter
from pythonic_assistant.adapters.sandbox.box import CERTIFICATE_FILE, Box
from pythonic_assistant.adapters.sandbox.box_server import BoxServer
from pythonic_assistant.adapters.sandbox.bwrap_command import Shape
from pythonic_assistant.adapters.sandbox.inside import privileges
from pythonic_assistant.adapters.sandbox.inside.copies import copy_readable
from pythonic_assistant.adapters.sandbox.options import SandboxOptions
from pythonic_assistant.adapters.sandbox.owned import OwnedSandbox
from pythonic_assistant.adapters.sandbox.probe import ensure_isolated
from pythonic_assistant.adapters.sandbox.process_group import ProcessGroup
from pythonic_assistant.adapters.sandbox.zygote_process import ENVIRONMENT, PRELOAD
from pythonic_assistant.domain.errors import SandboxUnavailableError
from pythonic_assistant.domain.limits import SandboxLimits

_INFO_BYTES = 4096


@asynccontextmanager
async def bwrap_sandbox(
    socket_path: Path | None, options: SandboxOptions, *, probe: bool = True
) -> AsyncGenerator[OwnedSandbox, None]:
    """Keep boxes prepared, prove that they isolate, and end them with everything in them on leaving.

    Raises:
        SandboxUnavailableError: bwrap is missing or not allowed to work, or its walls have a hole.
        ConfigurationError: the socket's path cannot be used, or another process serves there.
    """
    programme = shutil.which("bwrap")
    if programme is None:
        raise diagnosis.bwrap_unavailable(
            "Bubblewrap is not installed (no bwrap on the path).", installed=False
        )
    async with AsyncExitStack() as stack:
        group = stack.enter_context(ProcessGroup())
        launcher = BwrapLauncher(programme, group, packages=options.packages)
        usual = launcher.shape_of(options.limits, None)
        server = BoxServer(launcher, usual, socket_path=socket_path, warm=options.warm)
        try:
            await stack.enter_async_context(server)
        except SandboxUnavailableError as error:
            raise diagnosis.bwrap_unavailable(f"A box did not start: {error}") from error
        sandbox = OwnedSandbox(
            server, tier="bwrap", collect_limits=options.collect_limits, packages=options.packages
        )
        if probe:
            await ensure_isolated(sandbox)
        yield sandbox


class BwrapLauncher:
    """Starts boxes by bubblewrap. Run as root, each gets a user of its own, as sessions of a zygote do.

    Args:
        programme: path of bwrap.
        group: in which it is started.
        packages: folder of additional packages, or None.
    """

    def __init__(self, programme: str, group: ProcessGroup, *, packages: Path | None = None) -> None:
        self._programme = programme
        self._group = group
        self._packages = packages
        self._slots = privileges.slots()

    @property
    def tier(self) -> str:
        """See `pool.Launcher`."""
        return "bwrap"

    @property
    def same_user(self) -> bool:
        """Whether sessions run as the user of this process."""
        return self._slots is None

    def shape(self, request: Mapping[str, Any]) -> Shape:
        """See `pool.Launcher`."""
        folder = request.get("folder")
        return self.shape_of(SandboxLimits(**request["limits"]), None if folder is None else str(folder))

    def shape_of(self, limits: SandboxLimits, folder: str | None) -> Shape:
        """Return the shape of a box for such limits."""
        return Shape(disk_bytes=limits.disk_bytes, shared_bytes=limits.memory_bytes // 4, folder=folder)

    def launch(self, shape: Shape, folder: Path) -> Box:
        """Start a box. See `pool.Launcher`.

        Raises:
            SandboxUnavailableError: it cannot be started.
        """
        inputs = folder / "inputs"
        inputs.mkdir(parents=True)
        inputs.chmod(0o755)  # whatever the umask: the session's user is another one
        certificate = folder / CERTIFICATE_FILE
        certificate.touch()
        certificate.chmod(0o644)
        user = self._slots.take() if self._slots else None
        try:
            if user is not None and shape.folder is not None:
                # The session's user cannot read what its owner keeps for itself.
                copy_readable(Path(shape.folder), folder / "shown")
                shape = replace(shape, folder=str(folder / "shown"))
            return self._start(shape, folder, inputs, user)
        except OSError as error:  # out of memory, processes or open files
            shutil.rmtree(folder, ignore_errors=True)
            raise SandboxUnavailableError(
                f"{self._programme} cannot be started ({error.strerror or error})."
            ) from error

    def _start(self, shape: Shape, folder: Path, inputs: Path, user: int | None) -> Box:
        with ExitStack() as theirs:

            def lend(descriptor: int) -> int:
                theirs.callback(os.close, descriptor)
                return descriptor

            ours, job = socket.socketpair()
            theirs.enter_context(job)
            complaints = os.memfd_create("complaints", os.MFD_CLOEXEC)
            files = {path: lend(_filled(content)) for path, content in bwrap_command.small_files()}
            passed = [job.fileno(), *files.values()]
            words = bwrap_command.arguments(
                shape,
                inputs=inputs,
                certificate=folder / CERTIFICATE_FILE,
                packages=self._packages,
                files=files,
                as_root=user is not None,
            )
            mapping: tuple[int, ...] = ()
            before: Callable[[], None] | None = None
            if user is not None:
                info, told = os.pipe()
                block, go = os.pipe()
                mapping = (info, go)
                before = partial(_map, info, go, user)
                passed += [lend(told), lend(block)]
                words += ["--info-fd", str(told), "--userns-block-fd", str(block)]
            settings = {
                "tier": self.tier,
                "job": job.fileno(),
                "site_packages": interpreter.site_packages(),
                "preload": PRELOAD,
                "become": user is not None,
                "folder": shape.folder is not None,
                "packages": None if self._packages is None else str(self._packages),
            }
            for name, value in ENVIRONMENT.items():
                words += ["--setenv", name, value]
            start = f"{bwrap_command.INSIDE_SHOWN}/__main__.py"
            command = [sys.executable, "-I", "-S", start, json.dumps(settings)]
            try:
                # Started on this thread on purpose: the kernel ends bwrap with the thread that started it.
                process = subprocess.Popen(
                    [self._programme, *words, "--", *command],
                    env=ENVIRONMENT,
                    cwd="/",
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=complaints,
                    pass_fds=passed,
                    process_group=self._group.number(),  # Ctrl-C in a terminal is for its owner
                    extra_groups=None if user is None else [],
                )
            except BaseException:
                ours.close()
                for descriptor in (complaints, *mapping):
                    os.close(descriptor)
                raise
        return Box(process, ours, folder=folder, inputs=inputs, complaints=complaints, before=before)


def _filled(content: bytes) -> int:
    """Return a descriptor from which a little content can be read once."""
    descriptor = os.memfd_create("file", os.MFD_CLOEXEC)
    os.write(descriptor, content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _map(info: int, go: int, user: int) -> None:
    """Give the box's namespace two users: root, to set it up, and the one that its session becomes.

    Args:
        info: pipe on which bwrap tells the process; closed by this.
        go: pipe on which bwrap waits for the users; closed by this.
        user: of the host.

    Raises:
        SandboxUnavailableError: the kernel refuses.
    """
    try:
        text = b""
        while chunk := os.read(info, _INFO_BYTES):
            text += chunk
        if not text:
            return  # bwrap ended before: what it complained of is told by whoever waits for the box
        process = Path(f"/proc/{int(json.loads(text)['child-pid'])}")
        lines = f"0 0 1\n{privileges.USER_INSIDE} {user} 1\n"
        (process / "uid_map").write_text(lines)
        (process / "gid_map").write_text(lines)
        os.write(go, b"11")  # bwrap reads twice
    except (ValueError, KeyError, OSError) as error:
        raise SandboxUnavailableError(f"its users cannot be mapped ({error}).") from error
    finally:
        os.close(info)
        os.close(go)
