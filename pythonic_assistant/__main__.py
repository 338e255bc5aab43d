"""The runner: one run, in a process of its own. A request line on stdin, a JSON line per event on stdout.

Where code calls a tool, a line on stdout asks for it and a line on stdin answers.

It holds no more than the model's key, never touches the database, and ends when its worker does: the end of
stdin is the sign.
"""

from __future__ import annotations

import asyncio
import ctypes
import importlib
import logging
import os
import signal
import sys
from datetime import UTC, datetime
from functools import partial

from pythonic_assistant.adapters.models.catalogue import ModelSettings, model_from
from pythonic_assistant.adapters.models.demo import demo_model
from pythonic_assistant.adapters.sandbox import connect_sandbox
from pythonic_assistant.agent import loop
from pythonic_assistant.domain.budget import Usage
from pythonic_assistant.domain.errors import AssistantError, InvalidInputError
from pythonic_assistant.domain.event import Event, RunFailed
from pythonic_assistant.domain.task import DEMO_MODEL
from pythonic_assistant.ports import Egress
from pythonic_assistant.prompts.rendering import compile_all
from pythonic_assistant.tools.asking import Asking
from pythonic_assistant.tools.registry import CheckedToolbox
from pythonic_assistant.wire import (
    LONGEST_LINE,
    RunOrder,
    TimedEvent,
    ToolAsked,
    read_answer,
    read_order,
    write_ask,
    write_event,
)

log = logging.getLogger("pythonic_assistant.runner")

NO_MODEL = (
    "No model is configured, so there is no connection to test. Set OPENAI_API_KEY, or OPENAI_BASE_URL and "
    "PYTHONIC_MODEL for Ollama or another server, and start again."
)


def emit(event: Event) -> None:
    """Write an event line; blocks while the worker is behind, which is the back-pressure that is wanted."""
    sys.stdout.buffer.write(write_event(TimedEvent(at=datetime.now(UTC), event=event)))
    sys.stdout.buffer.flush()


def ask(asked: ToolAsked) -> None:
    """Write a line that asks for a tool."""
    sys.stdout.buffer.write(write_ask(asked))
    sys.stdout.buffer.flush()


async def work(order: RunOrder, asking: Asking) -> None:
    """Run an order to its last event."""
    if order.model is None and order.request.kind == "probe":
        emit(RunFailed(error=NO_MODEL, retryable=False, usage=Usage()))
        return
    sandbox = connect_sandbox(order.sandbox_socket, packages=order.packages)
    request = order.request
    # The worker keeps the deadlines: an action that is given up here could still happen there.
    toolbox = CheckedToolbox(request.tools, asking.call, seconds=None) if request.tools else None
    run = partial(
        loop.run,
        request,
        sandbox=sandbox,
        outbox=order.outbox,
        emit=emit,
        egress=_egress(order),
        toolbox=toolbox,
        entering=asking.entering,
    )
    if order.model is None or order.model.model == DEMO_MODEL:
        await run(model=demo_model())
        return
    model = model_from(
        ModelSettings(
            model=order.model.model,
            api_key=order.model.api_key,
            base_url=order.model.base_url or "",
            code_format=order.model.code_format,
        )
    )
    try:
        await run(model=model)
    finally:
        await model.close()


def _egress(order: RunOrder) -> Egress | None:
    if order.egress is None:
        return None
    # Imported here: most tasks reach nothing, and certificates take their time.
    from pythonic_assistant.adapters.egress.client import BrokerEgress

    return BrokerEgress(
        order.egress.socket, order.egress.token, order.egress.certificate, order.request.hosts
    )


def get_ready() -> None:
    """Do ahead what the first order would wait for: imports (0.4 s), certificates and prompts (0.1 s)."""
    importlib.import_module("pythonic_assistant.adapters.sandbox.sandbox")
    model_from(ModelSettings(model="none", base_url="http://127.0.0.1:9/v1"))
    compile_all()


def die_with_the_worker() -> None:
    """Ask Linux to kill this process when its parent goes, even while it is busy.

    PR_SET_PDEATHSIG is 1: https://man7.org/linux/man-pages/man2/PR_SET_PDEATHSIG.2const.html
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


async def main() -> int:
    """Wait for the request, run it, and end at once when the worker goes away."""
    line = await asyncio.to_thread(sys.stdin.buffer.readline)
    if not line:
        return 0
    asking = Asking(ask)
    running = asyncio.create_task(_answer(line, asking), name="run")
    listening = asyncio.create_task(_listen(asking), name="worker-watch")
    await asyncio.wait({running, listening}, return_when=asyncio.FIRST_COMPLETED)
    if not running.done():
        log.warning("the worker went away", extra={"action": "runner_stop"})
        os._exit(3)  # the reading thread could not be joined, and nobody is left to report to
    await running
    sys.stdout.buffer.flush()
    os._exit(0)  # the thread that reads stdin ends only with the process


async def _listen(asking: Asking) -> None:
    """Hand on the worker's answers; returns when there are no more to come, or they make no sense."""
    while line := await asyncio.to_thread(sys.stdin.buffer.readline, LONGEST_LINE):
        try:
            asking.answer(read_answer(line))
        except InvalidInputError as error:
            log.error("unreadable", extra={"action": "runner_stop", "reason": str(error)})  # noqa: TRY400
            return


async def _answer(line: bytes, asking: Asking) -> None:
    try:
        await work(read_order(line), asking)
    except AssistantError as error:
        emit(RunFailed(error=str(error), retryable=False, usage=Usage()))


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal is for the worker to handle
    die_with_the_worker()
    get_ready()
    sys.exit(asyncio.run(main()))
