"""The file is taken out of a form however the form is cut into pieces."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from embedded_supabase.gateway.asgi import RefusedError
from embedded_supabase.gateway.multipart import boundary_of, file_of

BOUNDARY = b"a-b"
CONTENT = b"one\r\n--a-\r\n--a-c two \x00\xff"
FIELD = b'--a-b\r\nContent-Disposition: form-data; name="cacheControl"\r\n\r\n3600\r\n'
HEAD = b'--a-b\r\nContent-Disposition: form-data; name=""; filename="x.csv"\r\nContent-Type: text/csv\r\n\r\n'
TAIL = b"\r\n--a-b--\r\n"


async def cut(form: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(form), size):
        yield form[start : start + size]


@pytest.mark.parametrize("size", [1, 2, 7, 100, 10_000])
async def test_the_file_comes_out_whole(size: int) -> None:
    form = FIELD + HEAD + CONTENT + TAIL
    file = await file_of(cut(form, size), BOUNDARY)
    assert file.media_type == b"text/csv"
    assert b"".join([piece async for piece in file.content]) == CONTENT
    if size in (1, 10_000):  # known to the byte unless a piece ends within the boundary
        assert len(form) - file.overhead == len(CONTENT)


async def test_only_the_first_of_several_files_counts() -> None:
    form = HEAD + b"first\r\n" + HEAD + b"second" + TAIL
    file = await file_of(cut(form, 10), BOUNDARY)
    assert b"".join([piece async for piece in file.content]) == b"first"


@pytest.mark.parametrize("form", [b"", FIELD + b"--a-b--\r\n", b"nonsense", HEAD[:-2]])
async def test_a_form_without_a_file_is_refused(form: bytes) -> None:
    with pytest.raises(RefusedError, match="no file"):
        await file_of(cut(form, 5), BOUNDARY)


async def test_a_file_that_is_cut_off_is_refused() -> None:
    file = await file_of(cut(HEAD + CONTENT, 5), BOUNDARY)
    with pytest.raises(RefusedError, match="cut off"):
        async for _ in file.content:
            pass


@pytest.mark.parametrize(
    ("kind", "boundary"),
    [
        ("multipart/form-data; boundary=a-b", b"a-b"),
        ('Multipart/Form-Data; boundary="a-b"', b"a-b"),
        ("text/plain; boundary=x", None),
        (None, None),
    ],
)
def test_forms_are_known_by_their_type(kind: str | None, boundary: bytes | None) -> None:
    assert boundary_of(kind) == boundary
