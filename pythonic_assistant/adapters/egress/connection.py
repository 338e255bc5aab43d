"""One connection of the code: requests to a proxy, or a tunnel in which the proxy stands for the host."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import h11

from pythonic_assistant.adapters.egress.client_side import ClientSide
from pythonic_assistant.adapters.egress.exchange import Account, Exchange
from pythonic_assistant.adapters.egress.line import Line
from pythonic_assistant.adapters.egress.means import Means
from pythonic_assistant.adapters.egress.message import absolute_target, read_head, tunnelled_path
from pythonic_assistant.adapters.egress.policy import Target
from pythonic_assistant.adapters.egress.refusal import FailedError, GoneError, RefusedError
from pythonic_assistant.adapters.egress.upstream import Upstream
from pythonic_assistant.domain.event import EgressRequested

_HURRY_SECONDS: Final = 1.0


class Connection:
    """Answers on one connection until it ends.

    Args:
        line: owned from now on.
        crowded: whether other connections wait, so that this one shall not idle.
    """

    def __init__(self, line: Line, means: Means, crowded: Callable[[], bool]) -> None:
        self._line = line
        self._means = means
        self._crowded = crowded
        self._client = ClientSide(line, means.limits)
        self._kept: Upstream | None = None
        self._tunnel: Target | None = None
        self._wrong_name: RefusedError | None = None  # of the TLS handshake
        self._requests = 0

    async def run(self) -> None:
        """Answer requests, one after the other."""
        began = time.monotonic()
        try:
            await self._converse()
            await self._line.close()
        except GoneError:
            pass  # every request has been told of; there is nobody to tell
        finally:
            if self._tunnel is not None and not self._requests:
                self._tell(began, "CONNECT", self._tunnel, self._wrong_name, Account())
            if self._kept is not None:
                self._kept.abort()
            self._line.abort()

    async def _converse(self) -> None:
        limits = self._means.limits
        wait = limits.head_seconds
        while True:
            began = time.monotonic()
            try:
                request = await self._client.request(wait)
            except RefusedError as error:
                self._requests += 1
                self._tell(began, "?", self._tunnel, error, Account())
                await self._say(error)
                return
            if request is None:
                return
            if self._tunnel is None and request.method == b"CONNECT":
                again = await self._connect(request)
            else:
                self._requests += 1
                again = await self._request(request)
            if not again:
                return
            wait = _HURRY_SECONDS if self._crowded() else limits.between_seconds

    async def _connect(self, request: h11.Request) -> bool:
        """Open a tunnel and begin TLS in the name of the host."""
        began = time.monotonic()
        asked = request.target.decode("latin-1")
        target: Target | None = None
        try:
            target = self._means.policy.target(asked, "https")
            await self._client.establish()
            try:
                await self._line.serve_tls(
                    self._means.authority.context(target.host), seconds=self._means.limits.head_seconds
                )
            except OSError as error:
                raise GoneError("it did not begin TLS, or does not trust the proxy's certificate") from error
        except RefusedError as error:
            self._tell(began, "CONNECT", target, error, Account())
            await self._say(error)
            return False
        except GoneError as error:
            self._tell(began, "CONNECT", target, error, Account())
            raise
        name = self._means.authority.asked_name(self._line.tls)
        if name is not None and name.lower().rstrip(".") != target.host:
            self._wrong_name = RefusedError(
                f"The TLS server name is another one than {target.host}, to which the tunnel was opened.",
                host=target.host,
                port=target.port,
            )
        self._tunnel = target
        self._client = ClientSide(self._line, self._means.limits)
        return True

    async def _request(self, request: h11.Request) -> bool:
        """Relay one request; returns whether the connection can take another."""
        began = time.monotonic()
        method = request.method.decode("ascii")
        target, exchange, problem = self._tunnel, None, None
        account = Account()
        try:
            target, path = self._where(request)
            head = read_head(request, target, path)
            kept, self._kept = self._kept, None
            if kept is not None and kept.target != target:
                kept.abort()
                kept = None
            exchange = Exchange(self._client, target, self._means, kept)
            account = exchange.account
            self._kept = await exchange.run(head)
        except (RefusedError, FailedError, GoneError) as error:
            problem = error
        except BaseException:
            problem = GoneError("the session ended")
            raise
        finally:
            if exchange is not None:
                exchange.end()
            self._tell(began, method, target, problem, account)
        if problem is None:
            return self._client.again()
        await self._say(problem)
        return False

    def _where(self, request: h11.Request) -> tuple[Target, bytes]:
        """Host and path that a request is for.

        Raises:
            RefusedError: it may not be reached, or the request is not of this place.
        """
        if self._wrong_name is not None:
            raise self._wrong_name
        if self._tunnel is None:
            return absolute_target(request, self._means.policy)
        return self._tunnel, tunnelled_path(request)

    async def _say(self, problem: RefusedError | FailedError | GoneError) -> None:
        """Tell the code why there is no answer, if it can still be told."""
        if isinstance(problem, GoneError) or self._client.answered:
            raise GoneError from problem
        await self._client.say(problem.status, problem.sentence, refused=isinstance(problem, RefusedError))
        await self._client.linger()

    def _tell(
        self,
        began: float,
        method: str,
        target: Target | None,
        problem: RefusedError | FailedError | GoneError | None,
        account: Account,
    ) -> None:
        host, port = ("", 0) if target is None else (target.host, target.port)
        if isinstance(problem, RefusedError):
            host, port = problem.host or host, problem.port or port
        reason = ""
        if isinstance(problem, GoneError):
            reason = f"The code closed the connection: {problem}." if str(problem) else _GONE
        elif problem is not None:
            reason = problem.sentence
        self._means.reporter.tell(
            EgressRequested(
                host=host,
                port=port,
                method=method if len(method) <= _LONGEST_METHOD else "?",
                outcome="allowed"
                if problem is None
                else "refused"
                if isinstance(problem, RefusedError)
                else "failed",
                reason=reason,
                status=account.status if problem is None or self._client.answered else 0,
                sent_bytes=account.sent,
                received_bytes=account.received,
                seconds=round(time.monotonic() - began, 6),
                secrets=account.secrets,
            )
        )


_GONE: Final = "The code closed the connection before the answer had ended."
_LONGEST_METHOD: Final = 20
