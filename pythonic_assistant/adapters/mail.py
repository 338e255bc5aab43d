"""E-mail by SMTP: one message at a time, with the standard library's client in a thread."""

from __future__ import annotations

import asyncio
import ipaddress
import re
import smtplib
import ssl
from dataclasses import dataclass, field
from datetime import datetime
from email.message import EmailMessage
from email.utils import format_datetime, parseaddr
from typing import Final
from urllib.parse import unquote, urlsplit

from pythonic_assistant.domain.errors import ConfigurationError, PermanentError, RetryableError

_SECONDS: Final = 20.0  # for each answer of the server
_PORTS: Final = {"smtps": 465, "smtp": 587}  # RFC 8314, 3.3; RFC 6409
_ADDRESS: Final = re.compile(r"[!-?A-~]{1,64}@[A-Za-z0-9.-]{1,253}")
_FORM: Final = "smtps://user:password@mail.example.org, or smtp:// for a server that offers STARTTLS"


@dataclass(frozen=True, slots=True, kw_only=True)
class MailServer:
    """Where e-mail is handed in.

    Attributes:
        implicit_tls: encrypted from the first byte on; otherwise STARTTLS is used when it is offered.
        sender: address, perhaps with a name: `Pythonic <tasks@example.org>`.
    """

    host: str
    port: int
    implicit_tls: bool
    sender: str
    user: str = ""
    password: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """One e-mail.

    Attributes:
        id: becomes the Message-ID, the same on every try, so that a repeat can be recognised.
    """

    id: str
    to: str
    subject: str
    text: str
    at: datetime


def read_mail_server(address: str, sender: str) -> MailServer:
    """Read the two settings.

    Raises:
        ConfigurationError: one of them is impossible; the password is not shown.
    """
    try:
        url = urlsplit(address)
        port = url.port
        host = url.hostname or ""
    except ValueError as error:
        raise ConfigurationError(
            f"PYTHONIC_SMTP_URL is no address of a mail server: write {_FORM}."
        ) from error
    if (
        url.scheme not in _PORTS
        or not host
        or port == 0
        or url.path not in ("", "/")
        or url.query
        or url.fragment
        or re.search(r"\s", address)
    ):
        raise ConfigurationError(f"PYTHONIC_SMTP_URL is no address of a mail server: write {_FORM}.")
    plain = parseaddr(sender)[1]
    if not _ADDRESS.fullmatch(plain) or not sender.isprintable():
        raise ConfigurationError(
            f"PYTHONIC_MAIL_FROM is {sender!r}: write an e-mail address, such as tasks@example.org."
        )
    return MailServer(
        host=host,
        port=port or _PORTS[url.scheme],
        implicit_tls=url.scheme == "smtps",
        sender=sender,
        user=unquote(url.username or ""),
        password=unquote(url.password or ""),
    )


def read_allowed(text: str) -> tuple[str, ...]:
    """Read addresses and @domains with commas between them, in lower case.

    Raises:
        ConfigurationError: one of them is neither.
    """
    found = tuple(dict.fromkeys(part.strip().lower() for part in text.split(",") if part.strip()))
    for part in found:
        if not _ADDRESS.fullmatch(part if not part.startswith("@") else f"x{part}"):
            raise ConfigurationError(
                f"PYTHONIC_MAIL_TO holds {part!r}: write addresses or "
                "domains, such as me@example.org,@example.com."
            )
    return found


class Mailer:
    """Hands letters in at one server."""

    def __init__(self, server: MailServer, *, trust: ssl.SSLContext | None = None) -> None:
        self._server = server
        self._trust = trust or ssl.create_default_context()

    async def send(self, letter: Letter) -> None:
        """Hand a letter in.

        Raises:
            RetryableError: the server does not answer, or takes it later.
            PermanentError: the server will never take it.
        """
        message = self._message(letter)
        try:
            await asyncio.to_thread(self._hand_in, message)
        except smtplib.SMTPRecipientsRefused as error:
            code, said = next(iter(error.recipients.values()))
            raise _refusal(code, said, f"does not take e-mail for {letter.to}") from error
        except smtplib.SMTPAuthenticationError as error:
            raise RetryableError(
                "The mail server refuses the user or the password of PYTHONIC_SMTP_URL."
            ) from error
        except smtplib.SMTPResponseException as error:
            raise _refusal(error.smtp_code, error.smtp_error, "does not take the e-mail") from error
        except ssl.SSLCertVerificationError as error:
            raise RetryableError(
                f"The mail server's certificate is not valid: {error.verify_message}."
            ) from error
        except (OSError, smtplib.SMTPException) as error:
            raise RetryableError(
                f"The mail server {self._server.host} does not answer ({type(error).__name__})."
            ) from error

    def _message(self, letter: Letter) -> EmailMessage:
        message = EmailMessage()
        domain = parseaddr(self._server.sender)[1].partition("@")[2]
        message["From"] = self._server.sender
        message["To"] = letter.to
        message["Subject"] = one_line(letter.subject)
        message["Date"] = format_datetime(letter.at)
        message["Message-ID"] = f"<{letter.id}@{domain}>"
        message["Auto-Submitted"] = "auto-generated"  # RFC 3834: nobody's holiday shall answer
        message.set_content(letter.text)
        return message

    def _hand_in(self, message: EmailMessage) -> None:
        server = self._server
        if server.implicit_tls:
            client = smtplib.SMTP_SSL(server.host, server.port, timeout=_SECONDS, context=self._trust)
        else:
            client = smtplib.SMTP(server.host, server.port, timeout=_SECONDS)
        with client:
            client.ehlo()
            safe = server.implicit_tls or _is_loopback(server.host)
            if not server.implicit_tls and client.has_extn("starttls"):
                client.starttls(context=self._trust)
                client.ehlo()
                safe = True
            if server.user:
                if not safe:
                    raise smtplib.SMTPResponseException(
                        454, b"no TLS is offered, so the password was not sent"
                    )
                client.login(server.user, server.password)
            client.send_message(message)


def one_line(text: str) -> str:
    """Text without line breaks and other control characters, at most 200 characters: for a header."""
    return "".join(c for c in " ".join(text.split()) if c.isprintable())[:200]


def _refusal(code: int, said: bytes | str, what: str) -> RetryableError | PermanentError:
    text = said.decode(errors="replace") if isinstance(said, bytes) else said
    sentence = f"The mail server {what}: {code} {one_line(text)}"
    return PermanentError(sentence) if code >= 500 else RetryableError(sentence)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
