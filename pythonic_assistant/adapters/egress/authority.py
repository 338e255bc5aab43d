"""The authority of one worker: signs, for each host, the certificate that the proxy shows to code.

Its key is made at start and stays in this process; only sessions of this worker trust it.
"""

from __future__ import annotations

import os
import ssl
from collections import OrderedDict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from weakref import WeakKeyDictionary

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_EARLIER: Final = timedelta(hours=1)  # a clock that was just set back must not make all invalid
_AUTHORITY_LIFE: Final = timedelta(days=730)  # longer than a worker runs without a restart
_LEAF_LIFE: Final = timedelta(days=3)
_LEAF_USE: Final = timedelta(days=1)
_MOST_CONTEXTS: Final = 512


class Authority:
    """Signs certificates for hosts, and keeps the TLS contexts that show them."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Pythonic Assistant egress")])
        public = self._key.public_key()
        self._own = (
            _builder(name, name, public, _AUTHORITY_LIFE)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(sign_certificates=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        self._contexts: OrderedDict[str, tuple[datetime, ssl.SSLContext]] = OrderedDict()
        self._asked: WeakKeyDictionary[object, str] = WeakKeyDictionary()

    @property
    def certificate(self) -> str:
        """PEM, for the sessions that shall trust it."""
        return self._own.public_bytes(serialization.Encoding.PEM).decode()

    def context(self, host: str) -> ssl.SSLContext:
        """Return the server's side of TLS for a host; kept for a day, the newest 512."""
        now = datetime.now(UTC)
        made, context = self._contexts.pop(host, (now, None))
        if context is None or now - made > _LEAF_USE:
            made, context = now, self._context(host)
        self._contexts[host] = made, context
        if len(self._contexts) > _MOST_CONTEXTS:
            self._contexts.popitem(last=False)
        return context

    def asked_name(self, connection: Any) -> str | None:
        """The server name (SNI, RFC 6066) that the client of a TLS connection asked for, if it did."""
        return self._asked.get(connection)

    def _context(self, host: str) -> ssl.SSLContext:
        key = ec.generate_private_key(ec.SECP256R1())
        # The name is in the alternative names alone: a common name ends at 64 characters (RFC 5280, A.1).
        leaf = (
            _builder(x509.Name([]), self._own.subject, key.public_key(), _LEAF_LIFE)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=True)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(sign_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
            )
            .sign(self._key, hashes.SHA256())
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_alpn_protocols(["http/1.1"])
        _load(
            context,
            leaf.public_bytes(serialization.Encoding.PEM)
            + key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ),
        )

        def asked(connection: Any, name: str | None, _: ssl.SSLContext) -> None:
            if name is not None:
                self._asked[connection] = name

        context.sni_callback = asked
        return context


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, life: timedelta
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _EARLIER)
        .not_valid_after(now + life)
    )


def _usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _load(context: ssl.SSLContext, pem: bytes) -> None:
    """Give certificate and key to a context: OpenSSL reads files only, so one that no disk holds."""
    descriptor = os.memfd_create("leaf", os.MFD_CLOEXEC)
    try:
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write(pem)
        context.load_cert_chain(Path(f"/proc/self/fd/{descriptor}"))
    finally:
        os.close(descriptor)
