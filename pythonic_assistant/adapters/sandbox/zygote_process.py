"""The owner's side of the zygote: starts it, starts it again if it dies, and ends it."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NoReturn, Self

from pythonic_assistant.adapters.sandbox import diagnosis, interpreter
from pythonic_assistant.adapters.sandbox.channel import Channel
from pythonic_assistant.adapters.sandbox.details import details_of
from pythonic_assistant.adapters.sandbox.inside import frames
from pythonic_assistant.adapters.sandbox.listening import ListeningSocket
from pythonic_assistant.adapters.sandbox.loss import Loss
from pythonic_assistant.domain.errors import SandboxUnavailableError

ZygoteTier = Literal["namespaces", "landlock", "unsafe"]
PRELOAD = ("numpy", "pandas", "matplotlib", "matplotlib.pyplot", "scipy")
_START_SECONDS = 60.0  # a cold disk on a small machine; 0.6 s is usual
_STOP_SECONDS = 5.0
_RESPAWN_SECONDS = 0.2
_RESPAWNS = 5  # failed starts in a row before giving up: 6 s with the pauses between them
ENVIRONMENT = {
    "HOME": "/tmp",  # noqa: S108  (the zygote's own)
    "LANG": "C.UTF-8",
    # pyarrow's allocator would start a thread at import; the plain MALLOC_CONF is not read
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
    "MPLBACKEND": "Agg",
    "MPLCONFIGDIR": "/tmp/.matplotlib",  # noqa: S108
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "TMPDIR": "/tmp",  # noqa: S108
}
_log = logging.getLogger(__name__)


class ZygoteProcess:
    """Owns the listening socket and the process behind it.

    Use as an async context manager. Enter it on the thread that lives longest (the kernel ends the zygote
    with the thread that started it).

    Args:
        socket_path: where to listen, and nobody else may; its folder is made with mode 0700 if it does not
            exist. Other users are refused by the zygote in any case.
        tier: what isolates; "landlock" is for hosts that allow no namespaces, "unsafe" isolates nothing.
        landlock_most: the newest version of Landlock to use, to try out what holds on older kernels.
        packages: a folder of additional packages, shown to sessions at the same place; made if missing. What
            is below `current` in it, which may be a link that is switched later, new sessions import
            from. Its files have to be readable for everybody: sessions run as users of their own.
    """

    def __init__(
        self,
        socket_path: Path | None = None,
        *,
        tier: ZygoteTier = "namespaces",
        landlock_most: int | None = None,
        packages: Path | None = None,
    ) -> None:
        self._listening = ListeningSocket(socket_path, tier=tier)
        self._tier: ZygoteTier = tier
        self._landlock_most = landlock_most
        self._packages = None if packages is None else Path(os.path.abspath(packages))  # noqa: PTH100
        self._details: Mapping[str, str | int] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._status: Channel | None = None
        self._guard: asyncio.Task[None] | None = None
        self._loss = Loss()

    @property
    def socket_path(self) -> Path:
        """Where sessions are asked for.

        Raises:
            ConfigurationError: the process is not started.
        """
        return self._listening.path

    @property
    def packages(self) -> Path | None:
        """The folder of extra packages, if there is one."""
        return self._packages

    @property
    def pid(self) -> int | None:
        """Process id of the zygote that serves now."""
        return None if self._process is None else self._process.pid

    @property
    def details(self) -> Mapping[str, str | int]:
        """What the zygote that serves now knows about its walls; see `NamespaceSandbox.details`."""
        return self._details

    async def __aenter__(self) -> Self:
        """Start. See `start`."""
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End every session and the zygote."""
        await self.close()

    async def start(self) -> None:
        """Listen, start the zygote, and wait until it serves.

        Raises:
            SandboxUnavailableError: this host cannot isolate code; the message says what to change.
            ConfigurationError: the socket's path cannot be used, or another zygote listens there.
        """
        self._loss.clear()
        try:
            await self._listening.open()
            await self._spawn()
        except BaseException:
            await self.close()
            raise
        self._guard = asyncio.create_task(self._guard_it(), name="zygote guard")

    async def wait_lost(self) -> NoReturn:
        """Wait until no session can be had any more. A zygote that is being replaced is not lost.

        Await it beside the work that needs sessions; it has no deadline, so cancel it with that work.

        Raises:
            SandboxUnavailableError: the zygote ended and could not be started again, or was closed.
        """
        await self._loss.wait()

    async def close(self) -> None:
        """End the zygote and with it every session. May be called twice."""
        if self._guard is not None:
            self._guard.cancel()
            await asyncio.gather(self._guard, return_exceptions=True)
            self._guard = None
        await self._end_process()
        self._loss.tell("The sandbox's zygote has been closed.")
        self._listening.close()

    async def _spawn(self) -> None:
        try:
            self._status = self._launch(self._listening.socket)
        except OSError as error:  # out of memory, processes or open files; or Python itself is gone
            raise SandboxUnavailableError(
                f"The sandbox's zygote cannot be started ({error.strerror}). Check that this Python starts, "
                f"`{sys.executable} -I -c pass`, and that memory and open files are not used up."
            ) from error
        try:
            async with asyncio.timeout(_START_SECONDS):
                answer = await self._status.receive()
        except TimeoutError as error:
            raise SandboxUnavailableError(
                f"The sandbox's zygote was not ready after {_START_SECONDS:g} seconds; the machine is "
                "overloaded or its disk hangs."
            ) from error
        except (EOFError, OSError) as error:
            raise SandboxUnavailableError(
                "The sandbox's zygote ended before it was ready. Check that this Python starts: "
                f"`{sys.executable} -I -c pass`."
            ) from error
        except frames.FrameError as error:
            raise SandboxUnavailableError("The sandbox's zygote sent an unreadable message.") from error
        _ensure_ready(answer)
        self._details = details_of(answer)

    def _launch(self, listening: socket.socket) -> Channel:
        """Start the process; return the channel to it.

        Raises:
            OSError: it cannot be started.
        """
        ours, theirs = socket.socketpair()
        try:
            if self._packages is not None:
                self._packages.mkdir(mode=0o755, parents=True, exist_ok=True)
            settings = {
                "listen": listening.fileno(),
                "status": theirs.fileno(),
                "owner": os.getpid(),
                "python_paths": interpreter.python_paths(),
                "site_packages": interpreter.site_packages(),
                "preload": PRELOAD,
                "tier": self._tier,
                "scratch": tempfile.gettempdir(),
                "landlock_most": self._landlock_most,
                "packages": None if self._packages is None else str(self._packages),
            }
            inside = Path(__file__).parent / "inside"
            # Started on this thread on purpose: the zygote asks to be killed when its parent thread ends.
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(inside / "__main__.py"), json.dumps(settings)],
                env=ENVIRONMENT,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(listening.fileno(), theirs.fileno()),
                start_new_session=True,  # Ctrl-C in a terminal is for its owner
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        return Channel(ours)

    async def _guard_it(self) -> None:
        """Keep the zygote alive, and never end in silence: whatever stops the guard loses the zygote."""
        try:
            reason = await self._keep_alive()
        except Exception as error:  # noqa: BLE001  (a mistake of ours must be heard of as well)
            reason = f"its guard failed: {type(error).__name__}: {error}"
            _log.exception("the zygote's guard failed", extra={"action": "zygote_guard_failed"})
        self._loss.tell(f"The sandbox's zygote ended and did not come back: {reason}")
        self._listening.refuse()

    async def _keep_alive(self) -> str:
        """Start the zygote again whenever it ends; connections wait in the socket's queue meanwhile.

        Returns:
            Why it gave up.
        """
        failures = 0
        while True:
            said = {} if self._status is None else await self._status.last_message()
            await self._end_process()
            extra = {"action": "zygote_respawn", "reason": str(said.get("error", "it was killed"))}
            _log.warning("the zygote ended and is started again", extra=extra)
            try:
                await self._spawn()
                failures = 0
            except (SandboxUnavailableError, OSError) as error:
                failures += 1
                _log.exception("the zygote did not start", extra={"action": "zygote_respawn_failed"})
                if failures == _RESPAWNS:
                    return f"{failures} starts of another failed, the last because: {error}"
                await self._end_process()  # one that hangs would never close its channel
                await asyncio.sleep(_RESPAWN_SECONDS * 2**failures)

    async def _end_process(self) -> None:
        if self._status is not None:
            self._status.close()  # the zygote leaves when its owner's end closes
            self._status = None
        process, self._process = self._process, None
        if process is None:
            return
        try:
            await asyncio.to_thread(process.wait, _STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            try:
                await asyncio.to_thread(process.wait, _STOP_SECONDS)
            except subprocess.TimeoutExpired:
                # Stuck in the kernel; it dies as soon as that lets go, and is in nobody's way.
                extra = {"action": "zygote_lingers", "pid": process.pid}
                _log.error("the killed zygote lingers", extra=extra)


def _ensure_ready(answer: dict[str, Any]) -> None:
    if answer.get("event") != "ready":
        raise diagnosis.unavailable(str(answer.get("stage")), str(answer.get("error")), answer.get("errno"))
