"""A sandbox together with what is behind it, for the process that owns both."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn, Protocol

from pythonic_assistant.adapters.sandbox.collect import CollectLimits
from pythonic_assistant.adapters.sandbox.sandbox import NamespaceSandbox


class Source(Protocol):
    """Gives sessions at a socket: a zygote, or a server of boxes."""

    @property
    def socket_path(self) -> Path:
        """Where sessions are asked for."""
        ...

    @property
    def details(self) -> Mapping[str, str | int]:
        """What it knows about its walls: see `details.details_of`."""
        ...

    async def wait_lost(self) -> NoReturn:
        """Wait until no session can be had any more. See `ZygoteProcess.wait_lost`."""
        ...


class OwnedSandbox(NamespaceSandbox):
    """Sessions from a source of this process, whose loss the process shall hear of.

    Args:
        source: started, and closed by its owner.
        tier: what isolates.
        collect_limits: caps on the files taken out of a session.

    Attributes:
        note: why this tier was taken and not another; empty when there is nothing to say.
    """

    def __init__(
        self, source: Source, *, tier: str = "namespaces", collect_limits: CollectLimits | None = None
    ) -> None:
        super().__init__(source.socket_path, tier=tier, collect_limits=collect_limits)
        self._source = source
        self.note = ""

    @property
    def details(self) -> Mapping[str, str | int]:
        """What the source tells about its walls: see `details.details_of`."""
        return self._source.details

    async def wait_lost(self) -> NoReturn:
        """Wait until no session can be had any more. See `ZygoteProcess.wait_lost`.

        Raises:
            SandboxUnavailableError: the source ended and could not be started again, or was closed.
        """
        await self._source.wait_lost()
