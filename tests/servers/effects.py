"""A server whose actions count: every request that arrives becomes a line of a file, in a process of its own.

`python -m tests.servers.effects FILE` prints its port, then serves until it is killed. What a request's query
says happens to it:

    delay=S      wait S seconds before the answer (after it has counted)
    early=S      wait S seconds before it counts
    drop=before  close the connection before it counts: it has not happened
    drop=after   close the connection after it has counted: it has happened, and nobody is told
    once         all this holds for the first request of this path alone, but for `status`
    status=N     answer with this status; of 400 and more, the request does not count as done

A request with the `Idempotency-Key` of one that is done is answered as that was, and marked `again`: it is
not done twice. `GET /done` answers with the requests so far, `GET /done?key=K` with those of a key.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit


class Counting(ThreadingHTTPServer):
    """Keeps what was done, in memory and in the file; both survive whatever happens to clients."""

    daemon_threads = True

    def __init__(self, file: Path) -> None:
        super().__init__(("127.0.0.1", 0), Action)
        self.file = file
        self.lock = threading.Lock()
        self.done: list[dict[str, Any]] = []
        self.paths: set[str] = set()

    def note(self, row: dict[str, Any]) -> dict[str, Any]:
        """Count a request; returns the row, which is an older one when its key is known."""
        with self.lock:
            for older in self.done:
                if row["key"] is not None and older["key"] == row["key"]:
                    self._write({**row, "id": older["id"], "again": True})
                    return older
            row = {"id": len(self.done) + 1, **row}
            self.done.append(row)
            self._write(row)
            return row

    def first(self, path: str) -> bool:
        """Whether no request of this path came before."""
        with self.lock:
            new = path not in self.paths
            self.paths.add(path)
            return new

    def _write(self, row: dict[str, Any]) -> None:
        with self.file.open("a") as lines:
            lines.write(json.dumps(row) + "\n")


class Action(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    server: Counting

    def do_GET(self) -> None:
        """Tell what was done."""
        parts = urlsplit(self.path)
        wanted = parse_qs(parts.query).get("key")
        rows = [row for row in self.server.done if wanted is None or row["key"] == wanted[0]]
        self._answer(200 if parts.path == "/done" else 404, rows)

    def do_POST(self) -> None:
        """Do something that cannot be taken back."""
        body = self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode("utf-8", "replace")
        parts = urlsplit(self.path)
        said = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        if "once" in said and not self.server.first(parts.path):
            said = {name: value for name, value in said.items() if name == "status"}
        time.sleep(float(said.get("early", 0)))
        if said.get("drop") == "before":
            self._drop()
            return
        status = int(said.get("status", 201))
        row = {
            "method": self.command,
            "path": parts.path,
            "key": self.headers.get("Idempotency-Key"),
            "authorization": self.headers.get("Authorization"),
            "body": body,
            "at": time.time(),
        }
        answer = self.server.note(row) if status < 400 else {"refused": status}
        if said.get("drop") == "after":
            self._drop()
            return
        time.sleep(float(said.get("delay", 0)))
        self._answer(status, answer)

    do_PUT = do_DELETE = do_PATCH = do_POST

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def _answer(self, status: int, value: Any) -> None:
        body = json.dumps(value).encode()
        try:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        except OSError:
            self.close_connection = True  # the client was killed, which is what this server is for

    def _drop(self) -> None:
        self.close_connection = True
        self.connection.close()


@dataclass(frozen=True)
class Effects:
    """A running server, as tests see it."""

    port: int
    file: Path
    process: subprocess.Popen[str]

    @property
    def url(self) -> str:
        """Its address, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    def received(self) -> list[dict[str, Any]]:
        """Every request that counted, those `again` included."""
        return [json.loads(line) for line in self.file.read_text().splitlines()] if self.file.exists() else []

    def done(self) -> list[dict[str, Any]]:
        """What was done, each once."""
        with urllib.request.urlopen(f"{self.url}/done", timeout=10) as answer:
            return json.loads(answer.read())


@contextmanager
def effects_server(folder: Path) -> Iterator[Effects]:
    """Start a server that writes into a folder, and kill it at the end."""
    file = folder / "effects.jsonl"
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.servers.effects", str(file)],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield Effects(port=int(process.stdout.readline()), file=file, process=process)
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def main() -> None:
    """Serve until killed."""
    server = Counting(Path(sys.argv[1]))
    print(server.server_port, flush=True)
    server.serve_forever(0.05)


if __name__ == "__main__":
    main()
