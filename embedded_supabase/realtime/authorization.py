"""Who a token is, and what row-level security lets them do on a topic.

As on hosted Supabase the policies of `realtime.messages` decide: whoever may SELECT a message of a topic
may receive, whoever may INSERT one may send, apart for the extensions `broadcast` and `presence`. The
question is asked with a trial row in a transaction that is rolled back.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

import jwt

from embedded_supabase.gateway.access import Access
from embedded_supabase.gateway.asgi import RefusedError
from embedded_supabase.sql import Connection, NotAllowedError, Pool

Extension = Literal["broadcast", "presence"]
ROLES = ("anon", "authenticated", "service_role")
"""Roles that a token may name; lite signs no others."""


class DeniedError(Exception):
    """A token or a topic that is refused; the message is `Code: sentence`, as clients expect it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Somebody who asks.

    Attributes:
        role: the database role.
        claims: of the token; for a key only the role.
        expires_at: Unix seconds after which the token is worth nothing; None for a key.
    """

    role: str
    claims: Mapping[str, Any]
    expires_at: float | None

    @property
    def bypasses(self) -> bool:
        """Whether row-level security does not bind it."""
        return self.role == "service_role"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rights:
    """What may be done on one topic.

    Attributes:
        receive: extensions whose messages may be received.
        send: extensions whose messages may be sent.
    """

    receive: frozenset[Extension]
    send: frozenset[Extension]


EVERYTHING = Rights(receive=frozenset(("broadcast", "presence")), send=frozenset(("broadcast", "presence")))


def identify(token: str, access: Access, now: float | None = None) -> Identity:
    """Tell who a token or a key is.

    Raises:
        DeniedError: it is neither a key of ours nor a valid token of ours.
    """
    if token.startswith("sb_"):
        try:
            role = "service_role" if access.kind_of(token) == "secret" else "anon"
        except RefusedError as error:
            raise DeniedError("Unauthorized: Invalid API key.") from error
        return Identity(role=role, claims={"role": role}, expires_at=None)
    try:
        claims = jwt.decode(
            token,
            access.keys.jwt_secret,
            algorithms=["HS256"],
            options={"require": ["exp", "sub", "role"], "verify_aud": False},
        )
    except jwt.ExpiredSignatureError as error:
        raise DeniedError("InvalidJWTToken: Token has expired.") from error
    except jwt.InvalidTokenError as error:
        raise DeniedError("MalformedJWT: The token provided is not a valid JWT.") from error
    role = claims["role"]
    expires = float(claims["exp"])
    if role not in ROLES:
        raise DeniedError("Unauthorized: The role of the token may not use Realtime.")
    if expires <= (time.time() if now is None else now):
        raise DeniedError("InvalidJWTToken: Token has expired.")
    return Identity(role=role, claims=claims, expires_at=expires)


async def rights_on(pool: Pool, identity: Identity, topic: str) -> Rights:
    """Ask row-level security what an identity may do on a private topic.

    Raises:
        one of `sql.UNREACHABLE`.
    """
    if identity.bypasses:
        return EVERYTHING
    async with pool.acquire(timeout=10) as connection:
        transaction = connection.transaction()
        await transaction.start()
        try:
            return await _try_rows(connection, identity, topic)
        finally:
            await transaction.rollback()


async def _try_rows(connection: Connection, identity: Identity, topic: str) -> Rights:
    trial = "insert into realtime.messages (topic, extension, event, private) values ($1, $2, 'trial', true)"
    rows = await connection.fetch(
        "insert into realtime.messages (topic, extension, event, private) "
        "values ($1, 'broadcast', 'trial', true), ($1, 'presence', 'trial', true) returning id",
        topic,
    )
    claims = identity.claims
    await connection.execute(
        "select set_config('role', $1, true), set_config('realtime.topic', $2, true), "
        "set_config('request.jwt.claims', $3, true), set_config('request.jwt.claim.sub', $4, true), "
        "set_config('request.jwt.claim.role', $1, true), set_config('request.jwt.claim.email', $5, true)",
        identity.role,
        topic,
        json.dumps(dict(claims)),
        str(claims.get("sub") or ""),
        str(claims.get("email") or ""),
    )
    receive = await _readable(connection, [row["id"] for row in rows])
    send: set[Extension] = set()
    for extension in ("broadcast", "presence"):
        try:
            async with connection.transaction():
                await connection.execute(trial, topic, extension)
            send.add(extension)
        except NotAllowedError:
            continue  # 42501 is the answer "no" of a policy
    return Rights(receive=receive, send=frozenset(send))


async def _readable(connection: Connection, ids: list[Any]) -> frozenset[Extension]:
    try:
        async with connection.transaction():
            seen = await connection.fetch(
                "select extension from realtime.messages where id = any($1::uuid[])", ids
            )
    except NotAllowedError:
        return frozenset()
    return frozenset(cast(Extension, row["extension"]) for row in seen)
