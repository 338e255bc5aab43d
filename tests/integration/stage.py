"""A folder with stand-ins for database, worker and page, and the supervisor over them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

PROJECT = Path(__file__).resolve().parents[2]
# Each stand-in notes its birth, its environment and its end in the folder given as its second argument, and
# does what the file `<name>.behaviour` there tells it.
STAND_IN = r"""
import http.server, json, os, pathlib, signal, subprocess, sys, threading, time
name, folder = sys.argv[1], pathlib.Path(sys.argv[2])
note = folder / f"{name}.{os.getpid()}.json"
facts = {"born": time.time(), "environment": dict(os.environ), "arguments": sys.argv[3:]}
def save():
    note.with_suffix(".new").write_text(json.dumps(facts))
    note.with_suffix(".new").replace(note)
behaviour = folder / f"{name}.behaviour"
behaviour = behaviour.read_text() if behaviour.exists() else ""
if "fail" in behaviour:
    print("The moon is in the wrong phase.", file=sys.stderr)
    sys.exit(int(behaviour.split()[1]))
def stop(*_):
    facts["stopped"] = time.time()
    save()
    if "reraise" in behaviour:  # as uvicorn does after its clean end
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)
    os._exit(0)
signal.signal(signal.SIGTERM, signal.SIG_IGN if "stubborn" in behaviour else stop)
if "family" in behaviour:
    facts["grandchild"] = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]).pid
save()
if "chatty" in behaviour:
    def chat():
        number = 0
        while True:
            number += 1
            print(f"line {number} of the chatter", file=sys.stderr, flush=True)
            time.sleep(0.0001)
    threading.Thread(target=chat, daemon=True).start()
if name == "database":
    if "slow" in behaviour:
        time.sleep(2)
    keys = {"publishable_key": "sb_publishable_x", "secret_key": "sb_secret_hush",
            "local_user": {"email": "local@example.com", "password": "local-hush"}}
    state = pathlib.Path(sys.argv[sys.argv.index("--state") + 1])
    state.mkdir(parents=True, exist_ok=True)
    (state / "keys.json").write_text(json.dumps(keys))
    port = int(sys.argv[sys.argv.index("--port") + 1])
    facts["ready"] = time.time()
    save()
    print("noise before", flush=True)
    words = {"url": f"http://127.0.0.1:{port}", "keys_file": str(state / "keys.json")}
    words["database_url"] = "postgresql://canary@/postgres?host=/socket"
    print(json.dumps(words), flush=True)
    while True:
        time.sleep(1)
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        good = self.path == ("/startedz" if name == "worker" else "/")
        self.send_response(200 if good else 404)
        self.end_headers()
        if "amiss" in behaviour:
            self.wfile.write(b"The worker takes no tasks: no walls.")
    def log_message(self, *_):
        pass
port = int(os.environ["PYTHONIC_API_PORT" if name == "worker" else "PYTHONIC_PAGE_PORT"])
http.server.ThreadingHTTPServer(("127.0.0.1", port), Page).serve_forever()
"""
DRIVER = r"""
import os
import sys
from pathlib import Path
import main
from supervisor.stack import Programmes, Stack
import supervisor.stack
if limit := os.environ.get("TEST_LOG_LIMIT"):
    supervisor.stack.LOG_SECONDS = 0.1
    supervisor.stack.LOG_BYTES = int(limit)
folder = Path(sys.argv[1])
def stand_in(name):
    return (sys.executable, str(folder / "stand_in.py"), name, str(folder))
names = ("database", "worker", "page")
defaults = Programmes(folder=folder, **{name: stand_in(name) for name in names})
supervisor.stack.Programmes = lambda: defaults
sys.exit(main.main())
"""


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def until(condition: Callable[[], Any], *, seconds: float = 15.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.02)
    return value


class Stage:
    """A folder with stand-ins, and the supervisor over them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.page_port, self.api_port, self.supabase_port = free_ports(3)
        self.started: list[subprocess.Popen[str]] = []
        (folder / "stand_in.py").write_text(STAND_IN)

    def behave(self, name: str, behaviour: str) -> None:
        (self.folder / f"{name}.behaviour").write_text(behaviour)

    def start(self, **extra: str) -> subprocess.Popen[str]:
        environ = {
            **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
            "PYTHONPATH": str(PROJECT),
            "PYTHONIC_HOME": str(self.home),
            "PYTHONIC_PAGE_PORT": str(self.page_port),
            "PYTHONIC_API_PORT": str(self.api_port),
            "PYTHONIC_SUPABASE_PORT": str(self.supabase_port),
            "OPENAI_API_KEY": "sk-hush",
            "UNRELATED_TOKEN": "hush",
            **extra,
        }
        process = subprocess.Popen(
            [sys.executable, "-c", DRIVER, str(self.folder)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environ,
            cwd=self.folder,
            start_new_session=True,
        )
        self.started.append(process)
        return process

    def up(self, **extra: str) -> tuple[subprocess.Popen[str], list[str]]:
        process = self.start(**extra)
        assert process.stdout is not None
        lines: list[str] = []
        while not any(line.startswith("Ready in") for line in lines):
            line = process.stdout.readline()
            assert line, "".join(lines)
            lines.append(line)
        return process, lines

    def facts(self, name: str) -> list[dict[str, Any]]:
        notes = sorted(
            self.folder.glob(f"{name}.*.json"), key=lambda note: json.loads(note.read_text())["born"]
        )
        return [{"pid": int(note.name.split(".")[1]), **json.loads(note.read_text())} for note in notes]

    def alive(self) -> list[int]:
        pids = []
        for process in psutil.process_iter(["cmdline", "status"]):
            words = process.info["cmdline"] or []
            if str(self.folder) in " ".join(words) and process.info["status"] != psutil.STATUS_ZOMBIE:
                pids.append(process.pid)
        noted = [facts for name in ("database", "worker", "page") for facts in self.facts(name)]
        pids += [facts["grandchild"] for facts in noted if runs(facts.get("grandchild", -1))]
        return pids


def runs(pid: int) -> bool:
    if pid < 0:
        return False
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
