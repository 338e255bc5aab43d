"""The two answers of @supabase/lite 0.10.0 that the official Python clients cannot read, put right.

Each has a contract test that fails as soon as lite answers as hosted Supabase does; then remove it here.
"""

from __future__ import annotations

import json
import re
from typing import Any, cast

_POSTGRES_TIME = re.compile(r"(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d(?:\.\d+)?)([+-]\d\d)(:\d\d)?")
_SIGN = re.compile(r"/storage/v1/object/(upload/)?sign/.+")


def iso_times(value: Any) -> Any:
    """Turn `2026-11-20 15:49:46.755+00` into `2026-11-20T15:49:46.755+00:00` under every key `…_at`."""
    if isinstance(value, list):
        return [iso_times(entry) for entry in cast(list[Any], value)]
    if not isinstance(value, dict):
        return value
    result: dict[str, Any] = {}
    for key, entry in cast(dict[str, Any], value).items():
        if isinstance(entry, str) and key.endswith("_at"):
            match = _POSTGRES_TIME.fullmatch(entry)
            result[key] = f"{match[1]}T{match[2]}{match[3]}{match[4] or ':00'}" if match else entry
        else:
            result[key] = iso_times(entry)
    return result


def signed_urls(value: Any) -> Any:
    """Add what hosted Supabase calls lite's `signedUrl`: `signedURL`, or `url` for an upload.

    Hosted Supabase gives the path below `/storage/v1`; the clients put their own base in front of it.
    """
    if isinstance(value, list):
        return [signed_urls(entry) for entry in cast(list[Any], value)]
    if not isinstance(value, dict):
        return value
    answer = cast(dict[str, Any], value)
    address = answer.get("signedUrl")
    if not isinstance(address, str) or "signedURL" in answer or "url" in answer:
        return answer
    path = address.removeprefix("/storage/v1")
    return {**answer, ("url" if path.startswith("/object/upload/") else "signedURL"): path}


def needs_rewrite(method: str, path: str, content_type: str) -> bool:
    """Whether `rewrite` has something to say about an answer; all others are streamed."""
    return content_type.startswith("application/json") and (
        path.startswith(("/auth/v1/", "/storage/v1/bucket"))
        # GET is the download itself: a person's file, which may be JSON too.
        or (method == "POST" and bool(_SIGN.fullmatch(path)))
    )


def rewrite(path: str, body: bytes) -> bytes:
    """Put an answer right; what is not JSON is returned as it is."""
    try:
        value = json.loads(body)
    except ValueError:
        return body
    fixed = signed_urls(value) if _SIGN.fullmatch(path) else iso_times(value)
    return body if fixed == value else json.dumps(fixed).encode()
