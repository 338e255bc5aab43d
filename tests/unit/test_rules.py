"""Prompts of rules, signatures, words of letters, and the settings of e-mail."""

from __future__ import annotations

import pytest

from pythonic_assistant.adapters.mail import read_allowed, read_mail_server
from pythonic_assistant.domain.errors import ConfigurationError, InvalidInputError
from pythonic_assistant.domain.rule import FIELDS, rendered
from pythonic_assistant.domain.webhook import new_signing_secret, signed_headers
from pythonic_assistant.settings import load_settings
from supervisor.access import of_settings
from supervisor.environments import of_page, of_worker
from worker.letters import letter_of
from worker.webhook import body_of

HOSTED = {
    "SUPABASE_URL": "https://abcdefgh.supabase.co",
    "SUPABASE_PUBLISHABLE_KEY": "sb_publishable_x",
    "SUPABASE_SECRET_KEY": "sb_secret_hush",
}
MAIL = {"PYTHONIC_SMTP_URL": "smtps://me:pw%2Fcanary@mail.example.org", "PYTHONIC_MAIL_FROM": "t@example.org"}


def test_fields_are_filled_in_once_and_nothing_in_a_value_is_a_field() -> None:
    values = {name: f"<{name} {{{FIELDS[0]}}}>" for name in FIELDS}
    text = rendered(" ".join(f"{{{name}}}" for name in FIELDS), values)
    assert text == " ".join(values[name] for name in FIELDS)
    assert rendered("{{answer}} {{{state}}}", {"state": "failed"}) == "{answer} {failed}"
    assert rendered("[{answer}]", {"answer": None}) == "[]"


@pytest.mark.parametrize("template", ["{answr}", "{", "a } b", "{prompt.x}", "{ prompt }", "{0}", "{}"])
def test_other_fields_are_refused(template: str) -> None:
    with pytest.raises(InvalidInputError, match=r"the fields are \{prompt\}"):
        rendered(template, {})


def test_a_signature_is_that_of_the_published_example() -> None:
    # The example of the libraries of Standard Webhooks.
    found = signed_headers(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        delivery="msg_p5jXN8AQM9LWM0D4loKWxJek",
        timestamp=1614265330,
        body=b'{"test": 2432232314}',
    )
    assert found == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    assert new_signing_secret() != new_signing_secret()


@pytest.mark.parametrize(
    "secret", ["hush", "whsec_", "whsec_c2hvcnQ=", "whsec_" + "!" * 40, "whsec_" + "A" * 200]
)
def test_a_secret_that_cannot_sign_is_refused_and_not_shown(secret: str) -> None:
    with pytest.raises(InvalidInputError, match="cannot sign") as caught:
        signed_headers(secret, delivery="1", timestamp=1, body=b"")
    assert secret.removeprefix("whsec_")[:20] not in str(caught.value) or secret == "whsec_"


def test_the_body_is_the_same_whatever_the_order_it_was_stored_in() -> None:
    assert body_of({"b": "ü", "a": 1}) == body_of({"a": 1, "b": "ü"}) == '{"a":1,"b":"ü"}'.encode()


def test_a_letter_tells_what_happened() -> None:
    data = {
        "state": "succeeded",
        "verdict": "proven",
        "prompt": "Sum " + "x" * 100,
        "answer": "3",
        "task_id": 7,
    }
    payload = {
        "type": "task.succeeded",
        "timestamp": "2026-11-21T10:00:00Z",
        "data": data | {"shortened": True},
    }
    subject, text = letter_of(payload, rule="R")
    assert subject.startswith("A task is done: Sum xxx")
    assert subject.endswith("…")
    for part in ("Verdict: proven", "Answer:\n3", "Task 7, 2026-11-21 10:00 UTC", "shortened", "rule “R”"):
        assert part in text
    assert letter_of({**payload, "type": "rule.test"}, rule="R")[0] == "Test of the rule “R”"


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"PYTHONIC_SMTP_URL": MAIL["PYTHONIC_SMTP_URL"]}, "PYTHONIC_MAIL_FROM is not"),
        ({"PYTHONIC_MAIL_FROM": "t@example.org"}, "PYTHONIC_SMTP_URL is not"),
        ({"PYTHONIC_MAIL_TO": "t@example.org"}, "PYTHONIC_SMTP_URL is not"),
        (MAIL | {"PYTHONIC_SMTP_URL": "imap://me:canary@x"}, "no address of a mail server"),
        ({"PYTHONIC_MAIL_FORM": "t@example.org"}, "did you mean PYTHONIC_MAIL_FROM?"),
    ],
)
def test_settings_of_mail_that_mean_nothing_are_refused(given: dict[str, str], sentence: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(given, None)
    assert sentence in str(caught.value)
    assert "canary" not in str(caught.value)


def test_the_worker_alone_gets_the_mail_server() -> None:
    settings = load_settings(HOSTED | MAIL | {"PYTHONIC_MAIL_TO": "me@example.org"}, None)
    access = of_settings(settings)
    assert access is not None
    worker = of_worker({}, settings, access)
    assert load_settings(worker, None, role="worker").smtp_url == settings.smtp_url
    assert (worker["PYTHONIC_MAIL_FROM"], worker["PYTHONIC_MAIL_TO"]) == ("t@example.org", "me@example.org")
    assert "canary" not in str(of_page({}, settings, access))
    assert "canary" not in repr(settings)


def test_the_address_of_a_mail_server() -> None:
    server = read_mail_server(MAIL["PYTHONIC_SMTP_URL"], "Tasks <t@example.org>")
    assert (server.host, server.port, server.implicit_tls) == ("mail.example.org", 465, True)
    assert (server.user, server.password) == ("me", "pw/canary")
    assert "canary" not in repr(server)
    assert read_mail_server("smtp://mail.example.org:25", "t@example.org").port == 25
    for address, sender in (
        ("smtp://mail.example.org/path", "t@example.org"),
        ("smtp://mail.example.org:0", "t@example.org"),
        ("smtp://mail.example.org:port", "t@example.org"),
        ("smtp://mail.example.org", "nobody"),
        ("smtp://mail.example.org", "t@example.org\nBcc: x@y.org"),
    ):
        with pytest.raises(ConfigurationError):
            read_mail_server(address, sender)
    assert read_allowed(" Me@Example.org, @example.com,") == ("me@example.org", "@example.com")
    with pytest.raises(ConfigurationError, match="PYTHONIC_MAIL_TO holds '@'"):
        read_allowed("@")
