"""Sealing and opening of secrets: whoever has the public key can seal, only a worker can open.

A sealed box of libsodium: an X25519 key of the sender's that is thrown away, XSalsa20-Poly1305 for the value.
https://doc.libsodium.org/public-key_cryptography/sealed_boxes
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Final

from nacl.exceptions import CryptoError
from nacl.public import PrivateKey, PublicKey, SealedBox

from pythonic_assistant.domain.errors import InvalidInputError
from pythonic_assistant.domain.redaction import SHORTEST

LONGEST: Final = 64 << 10
"""Bytes of a value: a certificate with its chain fits, a file does not."""


def generate_key() -> str:
    """Draw a private key; base64."""
    return _text(bytes(PrivateKey.generate()))


def public_key_of(private_key: str) -> str:
    """Return the public key that belongs to a private one; base64.

    Raises:
        InvalidInputError: it is no key.
    """
    return _text(bytes(PrivateKey(_key(private_key)).public_key))


def key_id_of(public_key: str) -> str:
    """Return the first 16 hex digits of the SHA-256 of a public key.

    Raises:
        InvalidInputError: it is no key.
    """
    return hashlib.sha256(_key(public_key)).hexdigest()[:16]


def seal(public_key: str, value: str) -> str:
    """Return the value so that only the owner of the private key can read it; base64, each time another.

    Raises:
        InvalidInputError: the value is no secret that can be kept, or the key is none.
    """
    ensure_keepable(value)
    return _text(SealedBox(PublicKey(_key(public_key))).encrypt(value.encode()))


def unseal(private_key: str, ciphertext: str) -> str:
    """Return the value.

    Raises:
        InvalidInputError: it was sealed to another key, is damaged, or holds what no secret may be.
    """
    try:
        value = SealedBox(PrivateKey(_key(private_key))).decrypt(base64.b64decode(ciphertext, validate=True))
        text = value.decode()
    except (CryptoError, binascii.Error, ValueError) as error:
        raise InvalidInputError("It was sealed to another key, or is damaged.") from error
    ensure_keepable(text)
    return text


def ensure_keepable(value: str) -> None:
    """Refuse a value that could not be protected or handed to a program.

    Raises:
        InvalidInputError: it is too short, too long, or holds the NUL character.
    """
    if len(value) < SHORTEST:
        raise InvalidInputError(
            f"The secret has fewer than {SHORTEST} characters: so short a value cannot be recognised, and so "
            "could not be kept out of answers and logs."
        )
    try:
        size = len(value.encode())
    except UnicodeEncodeError as error:
        raise InvalidInputError("The secret holds half a character: enter it again.") from error
    if size > LONGEST:
        raise InvalidInputError(
            f"The secret has more than {LONGEST >> 10} KiB: give a file that long as an input."
        )
    if "\0" in value:
        raise InvalidInputError("The secret holds the NUL character, which no program takes: enter it again.")


def _key(text: str) -> bytes:
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidInputError("The key is no base64.") from error
    if len(key) != PublicKey.SIZE:
        raise InvalidInputError(f"The key has {len(key)} bytes instead of {PublicKey.SIZE}.")
    return key


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
