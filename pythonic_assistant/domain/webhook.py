"""How webhooks are signed: Standard Webhooks, so that receivers can verify them with any of its libraries.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md, "Webhook headers"
and "Signature scheme".
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from typing import Final

from pythonic_assistant.domain.errors import InvalidInputError

PREFIX: Final = "whsec_"
_SHORTEST, _LONGEST = 24, 64  # bytes of a key, by the specification


def new_signing_secret() -> str:
    """Draw a secret: `whsec_` and 32 bytes in base64."""
    return PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def signed_headers(secret: str, *, delivery: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Return the three headers of a webhook.

    Args:
        secret: as `new_signing_secret` draws it.
        delivery: the same on every try, so that the receiver can drop repeats.
        timestamp: of this try, in seconds since 1970.

    Raises:
        InvalidInputError: the secret is none that can sign.
    """
    content = f"{delivery}.{timestamp}.".encode() + body
    signature = base64.b64encode(hmac.new(_key(secret), content, hashlib.sha256).digest()).decode()
    return {
        "webhook-id": delivery,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": f"v1,{signature}",
    }


def _key(secret: str) -> bytes:
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not secret.startswith(PREFIX) or not _SHORTEST <= len(key) <= _LONGEST:
        raise InvalidInputError(
            f"The secret cannot sign: it has to be {PREFIX} and {_SHORTEST} to {_LONGEST} random bytes in "
            "base64."
        )
    return key
