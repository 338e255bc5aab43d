"""Values of secrets are found in what is compressed, too, and a bomb costs little."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import resource
import struct
import time
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pythonic_assistant.domain.secret import BoundSecret
from worker.searching import MOST_STREAMS, Found, secrets_in

VALUE = "hush-4711-canary"
SECRET = BoundSecret(name="TOKEN", value=VALUE, hosts=("example.org",), placeholder="PLACEHOLDER_TOKEN_1")
TEXT = b"harmless text, line by line\n" * 2_000 + VALUE.encode() + b" and more\n" * 2_000


def zipped(content: bytes, method: int = zipfile.ZIP_DEFLATED, name: str = "data.txt") -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as archive:
        archive.writestr("first.txt", b"nothing here " * 100)
        archive.writestr(name, content)
    return made.getvalue()


def as_stream(content: bytes) -> bytes:
    """A zip file written to a pipe: sizes come behind the data."""

    class Pipe(io.RawIOBase):
        def __init__(self) -> None:
            self.got = b""

        def writable(self) -> bool:
            return True

        def write(self, data: bytes) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
            self.got += bytes(data)
            return len(data)

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:  # pyright: ignore[reportArgumentType]
        archive.writestr("data.txt", content)
    return pipe.got


def look(folder: Path, content: bytes) -> Found:
    path = folder / "file"
    path.write_bytes(content)
    return secrets_in(path, (SECRET,))


HIDING = {
    "plain": TEXT,
    "zip": zipped(TEXT),
    "zip, stored": zipped(TEXT, zipfile.ZIP_STORED),
    "zip, bzip2": zipped(TEXT, zipfile.ZIP_BZIP2),
    "zip through a pipe": as_stream(TEXT),
    "zip in zip": zipped(zipped(TEXT), name="inner.zip"),
    "gzip in a stored zip": zipped(gzip.compress(TEXT), zipfile.ZIP_STORED),
    "gzip": gzip.compress(TEXT),
    "two gzip members": gzip.compress(b"nothing") + gzip.compress(TEXT),
    "bzip2": bz2.compress(TEXT),
    "xz": lzma.compress(TEXT),
    "xz, highest preset": lzma.compress(TEXT, preset=9),
    "zip in gzip, far behind": gzip.compress(bytes(3 << 20) + zipped(TEXT)),
    "zip behind something else": b"#!/bin/sh\n" * 200_000 + zipped(TEXT),
}


@pytest.mark.parametrize("content", HIDING.values(), ids=HIDING)
def test_a_value_is_found_wherever_it_is_compressed(tmp_path: Path, content: bytes) -> None:
    assert look(tmp_path, content) == Found(names=("TOKEN",))


@pytest.mark.parametrize("content", HIDING.values(), ids=HIDING)
def test_the_same_without_the_value_is_clean(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    other = BoundSecret(name="OTHER", value="not in any of them", hosts=(), placeholder="P")
    assert secrets_in(path, (other,)) == Found()
    assert secrets_in(path, ()) == Found()


@pytest.mark.parametrize("offset", [*range(-40, 41, 5), -1, 0, 1])
def test_an_archive_may_begin_anywhere(tmp_path: Path, offset: int) -> None:
    assert look(tmp_path, b"x" * ((1 << 20) + offset) + zipped(TEXT)).names == ("TOKEN",)


def test_all_secrets_of_a_file_are_found(tmp_path: Path) -> None:
    other = BoundSecret(name="OTHER", value="second-secret", hosts=(), placeholder="P2")
    third = BoundSecret(name="THIRD", value="not in there", hosts=(), placeholder="P3")
    path = tmp_path / "file"
    path.write_bytes(gzip.compress(b"second-secret") + VALUE.encode())
    assert secrets_in(path, (SECRET, other, third)).names == ("OTHER", "TOKEN")


def test_files_of_pandas_and_numpy(tmp_path: Path) -> None:
    frame = pd.DataFrame({"number": range(300), "text": ["nothing", VALUE, "more"] * 100})
    for compression in ("snappy", "gzip", None):
        path = tmp_path / f"frame-{compression}.parquet"
        frame.to_parquet(path, compression=compression)
        assert secrets_in(path, (SECRET,)) == Found(names=("TOKEN",)), compression
    hidden = tmp_path / "frame-zstd.parquet"
    frame.to_parquet(hidden, compression="zstd")
    found = secrets_in(hidden, (SECRET,))
    assert found.names or found.unseen == ("content in zstd",)
    np.savez_compressed(tmp_path / "arrays.npz", text=np.frombuffer(TEXT, dtype=np.uint8))
    assert secrets_in(tmp_path / "arrays.npz", (SECRET,)) == Found(names=("TOKEN",))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (zipped(TEXT, zipfile.ZIP_LZMA), "unusual compression"),
        (zipped(TEXT).replace(b"PK\x03\x04\x14\x00\x00", b"PK\x03\x04\x14\x00\x01"), "encrypted"),
        (bz2.compress(bz2.compress(bz2.compress(bz2.compress(bz2.compress(TEXT))))), "4 deep"),
        (b"\x28\xb5\x2f\xfd rest", "zstd"),
        (b"7z\xbc\xaf\x27\x1c rest", "7z"),
    ],
    ids=["lzma", "encrypted", "deep", "zstd", "7z"],
)
def test_what_cannot_be_looked_into_is_named(tmp_path: Path, content: bytes, words: str) -> None:
    found = look(tmp_path, content)
    assert found.names == ()
    assert any(words in text for text in found.unseen), found


def deflated_zeros(gibibytes: int) -> bytes:
    packer = zlib.compressobj(1, zlib.DEFLATED, -15)
    zeros = bytes(1 << 24)
    return b"".join(packer.compress(zeros) for _ in range(gibibytes * 64)) + packer.flush()


def bomb() -> bytes:
    """A GiB of zeros in a zip file of a few MB."""
    header = b"PK\x03\x04" + struct.pack("<HHHHHIIIHH", 20, 0, 8, 0, 0, 0, 0, 0, 1, 0) + b"a"
    return header + deflated_zeros(1)


BOMBS = {
    "one member": bomb,
    "gzip in gzip": lambda: gzip.compress(gzip.compress(bytes(300 << 20), 1)),
    "headers only": lambda: (b"PK\x03\x04" + bytes(4) + b"\x08" + bytes(21)) * 300_000,
    "overlapping": lambda: (
        (b"PK\x03\x04" + bytes(4) + b"\x08" + bytes(21) + b"\x00\x1e\x00\xe1\xff") * 200_000
    ),
    "xz with a huge window": lambda: lzma.compress(
        bytes(1 << 20), filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 29}]
    ),
}


@pytest.mark.parametrize("make", BOMBS.values(), ids=BOMBS)
def test_a_bomb_costs_little_and_is_told(tmp_path: Path, make: object) -> None:
    path = tmp_path / "bomb"
    path.write_bytes(make())  # pyright: ignore[reportCallIssue, reportUnknownArgumentType]
    before = resource.getrusage(resource.RUSAGE_SELF)
    began = time.process_time()
    found = secrets_in(path, (SECRET,))
    assert found.unseen
    assert time.process_time() - began < 30
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert after.ru_maxrss - before.ru_maxrss < 300 << 10, "kilobytes"


def test_a_value_behind_a_bomb_is_found(tmp_path: Path) -> None:
    assert look(tmp_path, (b"PK\x03\x04" + bytes(26)) * (MOST_STREAMS + 5) + TEXT).names == ("TOKEN",)
