"""The owner's side of boxes: answers the same Unix socket as a zygote, and gives each caller a box."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import socket
import struct
from collections.abc import Coroutine, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, NoReturn, Self, TypeVar

from pythonic_assistant.adapters.sandbox.channel import Channel
from pythonic_assistant.adapters.sandbox.inside import frames
from pythonic_assistant.adapters.sandbox.listening import ListeningSocket
from pythonic_assistant.adapters.sandbox.loss import Loss
from pythonic_assistant.adapters.sandbox.placing import place_inputs
from pythonic_assistant.adapters.sandbox.pool import BoxPool, Launcher
from pythonic_assistant.adapters.sandbox.readable import readable
from pythonic_assistant.domain.errors import SandboxUnavailableError

_UCRED = struct.Struct("3i")  # struct ucred: pid, uid, gid
_REQUEST_SECONDS = 10.0
_STREAMS = 3  # control, stdout, stderr
_TRIES = 3  # a prepared box may have died, such as when the machine ran out of memory
_log = logging.getLogger(__name__)

ShapeT = TypeVar("ShapeT")


class BoxServer(Generic[ShapeT]):
    """Owns the listening socket and the pool behind it.

    Use as an async context manager. Enter it on the thread that lives longest (the kernel ends the boxes with
    the thread that started them).

    Args:
        launcher: starts boxes.
        usual: the shape that most requests have.
        socket_path: as for a zygote.
        warm: how many boxes are kept prepared.
    """

    def __init__(
        self, launcher: Launcher[ShapeT], usual: ShapeT, *, socket_path: Path | None = None, warm: int = 2
    ) -> None:
        self._launcher = launcher
        self._usual = usual
        self._warm = warm
        self._listening = ListeningSocket(socket_path, tier=launcher.tier)
        self._pool: BoxPool[ShapeT] | None = None
        self._folder: Path | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._loss = Loss()

    @property
    def socket_path(self) -> Path:
        """Where sessions are asked for.

        Raises:
            ConfigurationError: the server is not started.
        """
        return self._listening.path

    @property
    def details(self) -> Mapping[str, str | int]:
        """What a box tells about its walls: see `details.details_of`."""
        return self._pool.details if self._pool else {}

    @property
    def prepared(self) -> int:
        """How many boxes wait for a request."""
        return self._pool.prepared if self._pool else 0

    async def __aenter__(self) -> Self:
        """Listen, and prepare the first box.

        Raises:
            SandboxUnavailableError: this host cannot make boxes of this kind.
            ConfigurationError: the socket's path cannot be used, or another process listens there.
        """
        try:
            await self._listening.open()
            # Beside the socket, so that input files of the same state folder can be linked, not copied.
            self._folder = self._listening.path.with_suffix(".boxes")
            await asyncio.to_thread(_emptied, self._folder)
            self._pool = BoxPool(self._launcher, self._folder, size=self._warm, usual=self._usual)
            await self._pool.start()
        except BaseException:
            await self.close()
            raise
        serving = self._start(self._serve(self._pool), "box server")
        self._start(self._keep_filled(self._pool, serving), "box pool")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End every session and every box."""
        await self.close()

    async def wait_lost(self) -> NoReturn:
        """Wait until no session can be had any more. See `ZygoteProcess.wait_lost`.

        Raises:
            SandboxUnavailableError: boxes do not start any more, or the server was closed.
        """
        await self._loss.wait()

    async def close(self) -> None:
        """End every session and every box. May be called twice."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._pool is not None:
            await self._pool.close()
            self._pool = None
        self._loss.tell("The sandbox's boxes have been closed.")
        self._listening.close()
        if self._folder is not None:
            await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)
            self._folder = None

    def _start(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _keep_filled(self, pool: BoxPool[ShapeT], serving: asyncio.Task[None]) -> None:
        """Keep boxes prepared, and never end in silence: whatever stops this loses the sandbox."""
        try:
            reason = await pool.keep_filled()
        except Exception as error:  # noqa: BLE001  (a mistake of ours must be heard of as well)
            reason = f"the pool failed: {type(error).__name__}: {error}"
            _log.exception("the pool failed", extra={"action": "box_pool_failed"})
        self._loss.tell(f"The sandbox's boxes do not start any more: {reason}")
        serving.cancel()  # first: a closed descriptor is not waited for
        await asyncio.gather(serving, return_exceptions=True)
        self._listening.refuse()

    async def _serve(self, pool: BoxPool[ShapeT]) -> None:
        listening = self._listening.socket
        listening.setblocking(False)
        me = os.geteuid()
        while True:
            # Not `loop.sock_accept`: cancelled in the moment in which somebody arrives, it loses him.
            await readable(listening.fileno())
            try:
                connection, _ = listening.accept()
            except BlockingIOError:  # whoever it was has left
                continue
            except OSError as error:  # out of open files: the next one may do better
                _log.warning("no connection", extra={"action": "accept_failed", "error": str(error)})
                await asyncio.sleep(0.1)
                continue
            credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
            if _UCRED.unpack(credentials)[1] != me:
                connection.close()
                continue
            task = self._start(self._answer(connection, pool), "box request")
            # Also of one that was cancelled before it began; closing twice does nothing.
            task.add_done_callback(partial(_close, connection))

    async def _answer(self, connection: socket.socket, pool: BoxPool[ShapeT]) -> None:
        """Give a caller a box, or say why not; afterwards the connection is the box's."""
        caller = Channel(connection)
        descriptors: list[int] = []
        try:
            async with asyncio.timeout(_REQUEST_SECONDS):
                request, descriptors = await caller.receive_with_descriptors(frames.MAX_DESCRIPTORS)
            await self._hand_over(connection.fileno(), request, descriptors, pool)
        except (TimeoutError, EOFError, frames.FrameError):  # no request, nobody to answer
            return
        except (SandboxUnavailableError, OSError, KeyError, TypeError, ValueError) as error:
            try:
                await caller.send({"event": "failed", "error": str(error) or type(error).__name__})
            except OSError:  # the caller did not wait
                return
        finally:
            caller.close()
            for descriptor in descriptors:
                os.close(descriptor)

    async def _hand_over(
        self,
        connection: int,
        request: Mapping[str, Any],
        descriptors: Sequence[int],
        pool: BoxPool[ShapeT],
    ) -> None:
        streams, files = descriptors[:_STREAMS], descriptors[_STREAMS:]
        names = [str(entry["name"]) for entry in request["inputs"]]
        files = files[: len(names)]  # a folder that comes after them is bound by its path: see `Shape`
        for left in reversed(range(_TRIES)):
            box = await pool.take(self._launcher.shape(request))
            try:
                if names:
                    linkable = self._launcher.same_user
                    await asyncio.to_thread(place_inputs, names, files, box.inputs, same_user=linkable)
                if request["certificate"] is not None:
                    await asyncio.to_thread(box.trust, str(request["certificate"]))
                await box.give(request, [connection, *streams])
            except ConnectionError:
                # It cannot have begun: a request that it got whole is not told as a failure. Two boxes
                # with the same streams would take each other's messages.
                box.kill()
                if not left:
                    raise
            except BaseException:
                box.kill()
                raise
            else:
                return


def _close(connection: socket.socket, _: asyncio.Task[None]) -> None:
    connection.close()


def _emptied(folder: Path) -> None:
    """Make a folder, without what an earlier owner left when it was killed."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
