"""A sandbox together with the zygote behind it, for the process that owns both."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn

from pythonic_assistant.adapters.sandbox.collect import CollectLimits
from pythonic_assistant.adapters.sandbox.sandbox import NamespaceSandbox
from pythonic_assistant.adapters.sandbox.zygote_process import ZygoteProcess


class OwnedSandbox(NamespaceSandbox):
    """Sessions from a zygote of this process, whose loss the process shall hear of.

    Args:
        zygote: started, and closed by its owner.
        collect_limits: caps on the files taken out of a session.
    """

    def __init__(self, zygote: ZygoteProcess, *, collect_limits: CollectLimits | None = None) -> None:
        super().__init__(zygote.socket_path, collect_limits=collect_limits)
        self._zygote = zygote

    @property
    def details(self) -> Mapping[str, str | int]:
        """What the zygote tells about its walls: see `details.details_of`."""
        return self._zygote.details

    async def wait_lost(self) -> NoReturn:
        """Wait until no session can be had any more. See `ZygoteProcess.wait_lost`.

        Raises:
            SandboxUnavailableError: the zygote ended and could not be started again, or was closed.
        """
        await self._zygote.wait_lost()
