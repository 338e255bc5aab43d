"""The owner's side of the zygote: starts it, starts it again if it dies, and ends it."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pythonic_assistant.adapters.sandbox import diagnosis, interpreter
from pythonic_assistant.adapters.sandbox.channel import Channel
from pythonic_assistant.adapters.sandbox.inside import frames
from pythonic_assistant.domain.errors import ConfigurationError, SandboxUnavailableError

PRELOAD = ("numpy", "pandas", "matplotlib", "matplotlib.pyplot", "scipy")
_START_SECONDS = 60.0  # a cold disk on a small machine; 0.6 s is usual
_STOP_SECONDS = 5.0
_BACKLOG = 512
_PATH_BYTES = 107  # sun_path of unix(7), less its final NUL
_RESPAWN_SECONDS = 0.2
_RESPAWNS = 5  # failed starts in a row before giving up
_ENVIRONMENT = {
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
        socket_path: where to listen; its folder is made with mode 0700 if it does not exist. Other users
            are refused by the zygote in any case.
    """

    def __init__(self, socket_path: Path | None = None) -> None:
        self._own_folder: Path | None = None
        self._path = socket_path
        self._listening: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._status: Channel | None = None
        self._guard: asyncio.Task[None] | None = None

    @property
    def socket_path(self) -> Path:
        """Where sessions are asked for.

        Raises:
            ConfigurationError: the process is not started.
        """
        if self._path is None:
            raise ConfigurationError("Start the zygote before asking for its socket.")
        return self._path

    @property
    def pid(self) -> int | None:
        """Process id of the zygote that serves now."""
        return None if self._process is None else self._process.pid

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
            ConfigurationError: the socket's path cannot be used.
        """
        self._listen()
        try:
            await self._spawn()
        except BaseException:
            await self.close()
            raise
        self._guard = asyncio.create_task(self._keep_alive(), name="zygote guard")

    async def close(self) -> None:
        """End the zygote and with it every session. May be called twice."""
        if self._guard is not None:
            self._guard.cancel()
            await asyncio.gather(self._guard, return_exceptions=True)
            self._guard = None
        await self._end_process()
        if self._listening is not None:
            self._listening.close()
            self._listening = None
            self.socket_path.unlink(missing_ok=True)
        if self._own_folder is not None:
            shutil.rmtree(self._own_folder, ignore_errors=True)
            self._own_folder = None

    def _listen(self) -> None:
        if self._path is None:
            self._own_folder = Path(tempfile.mkdtemp(prefix="pythonic-"))  # mkdtemp makes it 0700
            self._path = self._own_folder / "zygote.sock"
        if len(os.fsencode(self._path)) > _PATH_BYTES:
            raise ConfigurationError(
                f"The sandbox's socket path {self._path} is longer than {_PATH_BYTES} bytes; "
                "choose a shorter state folder."
            )
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path.unlink(missing_ok=True)
        self._listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listening.bind(str(self._path))
        self._path.chmod(0o600)
        self._listening.listen(_BACKLOG)

    async def _spawn(self) -> None:
        if self._listening is None:
            raise ConfigurationError("The zygote has been closed.")
        ours, theirs = socket.socketpair()
        settings = {
            "listen": self._listening.fileno(),
            "status": theirs.fileno(),
            "owner": os.getpid(),
            "python_paths": interpreter.python_paths(),
            "site_packages": interpreter.site_packages(),
            "preload": PRELOAD,
        }
        inside = Path(__file__).parent / "inside"
        # Started on this thread on purpose: the zygote asks to be killed when its parent thread ends.
        self._process = subprocess.Popen(  # noqa: ASYNC220
            [sys.executable, "-I", "-S", str(inside / "__main__.py"), json.dumps(settings)],
            env=_ENVIRONMENT,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(self._listening.fileno(), theirs.fileno()),
            start_new_session=True,  # Ctrl-C in a terminal is for its owner
        )
        theirs.close()
        self._status = Channel(ours)
        try:
            async with asyncio.timeout(_START_SECONDS):
                answer = await self._status.receive()
        except (EOFError, ConnectionError) as error:
            raise SandboxUnavailableError(
                "The sandbox's zygote ended before it was ready. Check that this Python starts: "
                f"`{sys.executable} -I -c pass`."
            ) from error
        except TimeoutError as error:
            raise SandboxUnavailableError(
                f"The sandbox's zygote was not ready after {_START_SECONDS:g} seconds; the machine is "
                "overloaded or its disk hangs."
            ) from error
        except frames.FrameError as error:
            raise SandboxUnavailableError("The sandbox's zygote sent an unreadable message.") from error
        _ensure_ready(answer)

    async def _keep_alive(self) -> None:
        """Start the zygote again whenever it ends; connections wait in the socket's queue meanwhile."""
        failures = 0
        while failures < _RESPAWNS:
            if self._status is not None:
                await self._status.closed()
            await self._end_process()
            _log.warning("the zygote ended and is started again", extra={"action": "zygote_respawn"})
            try:
                await self._spawn()
                failures = 0
            except SandboxUnavailableError:
                failures += 1
                _log.exception("the zygote did not start", extra={"action": "zygote_respawn_failed"})
                await asyncio.sleep(_RESPAWN_SECONDS * 2**failures)
        if self._listening is not None:  # refuse, rather than let callers wait for nobody
            self._listening.close()

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
            await asyncio.to_thread(process.wait, _STOP_SECONDS)


def _ensure_ready(answer: dict[str, Any]) -> None:
    if answer.get("event") != "ready":
        raise SandboxUnavailableError(
            diagnosis.unavailable(str(answer.get("stage")), str(answer.get("error")), answer.get("errno"))
        )
