"""The pure parts of the embedded Realtime: frames, presence, joins; and of the gateway: rewrites."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedded_supabase.gateway.rewrites import iso_times, signed_urls
from embedded_supabase.realtime.channels import QUEUE_FRAMES, Outbox
from embedded_supabase.realtime.frames import Frame, FrameError, decode, encode, reply, system
from embedded_supabase.realtime.joining import read_join, refusal_of_settings
from embedded_supabase.realtime.presence import Presence

TEXT = st.text(max_size=40)


@given(TEXT, TEXT, st.dictionaries(TEXT, TEXT), st.none() | TEXT, st.none() | TEXT)
def test_both_versions_carry_a_frame_whole(
    topic: str, event: str, payload: dict[str, Any], ref: str | None, join_ref: str | None
) -> None:
    frame = Frame(topic=topic, event=event, payload=payload, ref=ref, join_ref=join_ref)
    for version in ("1.0.0", "2.0.0"):
        data = encode(version, frame)
        assert data is not None
        assert decode(version, data) == frame


@given(st.binary(max_size=300))
def test_any_bytes_are_a_frame_or_an_error(data: bytes) -> None:
    for candidate in (data, b"\x03" + data):
        try:
            frame = decode("2.0.0", candidate)
        except FrameError:
            continue
        assert frame.event == "broadcast"


def test_a_broadcast_of_bytes_goes_to_version_two_only() -> None:
    parts = (b"1", b"2", b"realtime:room", b"hello", b"")
    sent = bytes((3, *(len(part) for part in parts), 0)) + b"".join(parts) + b"\x01\x02"
    frame = decode("2.0.0", sent)
    assert (frame.topic, frame.join_ref, frame.ref) == ("realtime:room", "1", "2")
    assert frame.payload == {"type": "broadcast", "event": "hello", "payload": b"\x01\x02"}
    out = Frame(topic=frame.topic, event="broadcast", payload=frame.payload)
    assert encode("1.0.0", out) is None
    assert encode("2.0.0", out) == bytes((4, 13, 5, 0, 0)) + b"realtime:roomhello\x01\x02"


@pytest.mark.parametrize("data", ["", "[]", "[1,2]", "{}", "nonsense", '{"topic": 1, "event": "x"}', "null"])
def test_what_is_no_frame_is_refused(data: str) -> None:
    for version in ("1.0.0", "2.0.0"):
        with pytest.raises(FrameError):
            decode(version, data)


def test_version_one_always_names_ref() -> None:
    data = encode("1.0.0", system("realtime:a", "1", status="error", message="m"))
    assert isinstance(data, str)
    assert json.loads(data)["ref"] is None
    assert json.loads(data)["payload"]["channel"] == "a"
    answer = reply(Frame(topic="t", event="e", ref="7", join_ref="1"), "ok")
    assert (answer.ref, answer.join_ref, answer.payload["response"]) == ("7", "1", {})


def test_presence_tells_differences() -> None:
    presence = Presence()
    first = presence.track(1, "a", {"n": 1})
    assert first["leaves"] == {} and first["joins"]["a"]["metas"][0]["n"] == 1
    again = presence.track(1, "a", {"n": 2})
    before, after = again["leaves"]["a"]["metas"][0], again["joins"]["a"]["metas"][0]
    assert after["phx_ref_prev"] == before["phx_ref"] != after["phx_ref"]
    presence.track(2, "a", {"n": 3})
    assert [meta["n"] for meta in presence.state()["a"]["metas"]] == [2, 3]
    left = presence.untrack(1)
    assert left is not None and left["leaves"]["a"]["metas"][0]["n"] == 2
    assert presence.untrack(1) is None


@pytest.mark.parametrize(
    ("topic", "config", "reason"),
    [
        ("realtime:a", {"private": True}, None),
        ("realtime:a", {}, "PrivateOnly"),
        ("realtime:", {"private": True}, "UnmatchedTopic"),
        ("a", {"private": True}, "UnmatchedTopic"),
        (
            "realtime:a",
            {"private": True, "postgres_changes": [{"event": "*"}]},
            "PostgresChangesNotSupported",
        ),
        ("realtime:a", "nonsense", "PrivateOnly"),
    ],
)
def test_joins_are_refused_for_a_reason(topic: str, config: object, reason: str | None) -> None:
    wish = read_join(Frame(topic=topic, event="phx_join", payload={"config": config}))
    said = refusal_of_settings(wish, allow_public=False)
    assert said is None if reason is None else said is not None and said.startswith(f"{reason}: ")


async def test_a_reader_that_is_too_slow_loses_its_socket() -> None:
    outbox = Outbox()
    for _ in range(QUEUE_FRAMES + 10):
        outbox.put("x")
    assert outbox.overflowed
    assert await outbox.get() is None
    large = Outbox()
    for _ in range(40):
        large.put("x" * (256 << 10))
    assert large.overflowed


def test_times_and_addresses_are_put_right() -> None:
    user = {
        "created_at": "2026-11-20 15:49:46.755+00",
        "identities": [{"updated_at": "2026-11-20 15:49:46+05:30", "name": "2026-11-20 15:49:46+00"}],
        "last_sign_in_at": None,
    }
    assert iso_times(user) == {
        "created_at": "2026-11-20T15:49:46.755+00:00",
        "identities": [{"updated_at": "2026-11-20T15:49:46+05:30", "name": "2026-11-20 15:49:46+00"}],
        "last_sign_in_at": None,
    }
    assert signed_urls([{"signedUrl": "/storage/v1/object/sign/b/x?token=t"}])[0]["signedURL"] == (
        "/object/sign/b/x?token=t"
    )
    assert signed_urls({"signedUrl": "/storage/v1/object/upload/sign/b/x?token=t"})["url"] == (
        "/object/upload/sign/b/x?token=t"
    )
    assert signed_urls({"message": "no"}) == {"message": "no"}
