"""The supervisor with real processes: small stand-ins for database, worker and page."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from pythonic_assistant.domain.errors import ConfigurationError
from supervisor.guarding import Guarding
from supervisor.log_file import last_line, open_log, shorten
from supervisor.ports import require_free
from supervisor.state import StateFolder

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


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    stage = Stage(tmp_path)
    yield stage
    for process in stage.started:
        if process.poll() is None:
            process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
    until(lambda: not stage.alive())


def test_everything_starts_knows_only_its_own_secrets_and_ends_in_order(stage: Stage) -> None:
    process, lines = stage.up()
    text = "".join(lines)
    assert f"http://127.0.0.1:{stage.page_port}" in text
    assert "[1/3] database ready" in text
    assert "[2/3] worker ready" in text
    assert "[3/3] page ready" in text
    assert "hush" not in text
    assert (stage.home.stat().st_mode & 0o777) == 0o700

    (database,), (worker,), (page,) = (stage.facts(name) for name in ("database", "worker", "page"))
    assert "hush" not in json.dumps(database["environment"])
    assert worker["environment"]["SUPABASE_SECRET_KEY"] == "sb_secret_hush"
    assert worker["environment"]["OPENAI_API_KEY"] == "sk-hush"
    assert worker["environment"]["PYTHONIC_MODEL"] == "gpt-6.1-sol"
    assert not {"SUPABASE_SECRET_KEY", "OPENAI_API_KEY", "PYTHONIC_MODEL"} & page["environment"].keys()
    assert page["environment"]["SUPABASE_PUBLISHABLE_KEY"] == "sb_publishable_x"
    assert page["environment"]["PYTHONIC_PASSWORD"] == "local-hush"
    for child in (database, worker, page):
        assert "UNRELATED_TOKEN" not in child["environment"]

    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=10) == 0
    (database,), (worker,), (page,) = (stage.facts(name) for name in ("database", "worker", "page"))
    assert database["stopped"] > max(worker["stopped"], page["stopped"])
    assert not stage.alive()


def test_a_worker_that_can_take_no_task_is_told_of_and_holds_up_nothing(stage: Stage) -> None:
    stage.behave("worker", "amiss")
    process, lines = stage.up()
    assert any(line.endswith(" The worker takes no tasks: no walls.\n") for line in lines)
    assert len(stage.facts("worker")) == 1, "it is not started again"
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=10) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_children_that_end_by_the_signal_they_are_sent_have_ended_well(
    stage: Stage, number: signal.Signals
) -> None:
    for name in ("database", "worker", "page"):
        stage.behave(name, "reraise")
    process, _ = stage.up()
    process.send_signal(number)
    out, _ = process.communicate(timeout=10)
    assert process.returncode == 0
    assert out.split("\n") == ["", "Stopping; once more Ctrl-C kills.", ""]
    assert not stage.alive()


def test_a_hosted_supabase_needs_no_database_here(stage: Stage) -> None:
    hosted = {
        "SUPABASE_URL": "https://abcdefgh.supabase.co",
        "SUPABASE_PUBLISHABLE_KEY": "sb_publishable_h",
        "SUPABASE_SECRET_KEY": "sb_secret_h",
        "PYTHONIC_EMAIL": "me@example.org",
        "PYTHONIC_PASSWORD": "of-the-command-line",
    }
    process, lines = stage.up(**hosted)
    assert "[2/2] page ready" in "".join(lines)
    assert stage.facts("database") == []
    page = stage.facts("page")[0]["environment"]
    assert page["SUPABASE_URL"] == hosted["SUPABASE_URL"]
    assert not {"PYTHONIC_EMAIL", "PYTHONIC_PASSWORD", "SUPABASE_SECRET_KEY"} & page.keys()
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=10) == 0


def test_from_the_second_start_on_the_page_does_not_wait_for_the_database(stage: Stage) -> None:
    stage.behave("database", "slow")
    process, _ = stage.up()
    assert stage.facts("page")[0]["born"] > stage.facts("database")[0]["ready"]
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=10) == 0
    _, _ = stage.up()
    page, database = stage.facts("page")[1], stage.facts("database")[1]
    assert page["born"] < database["ready"] - 1
    assert page["environment"]["SUPABASE_URL"] == f"http://127.0.0.1:{stage.supabase_port}"


def test_a_killed_child_comes_back(stage: Stage) -> None:
    process, _ = stage.up()
    assert process.stdout is not None
    for name in ("worker", "database"):
        os.kill(stage.facts(name)[0]["pid"], signal.SIGKILL)
        assert f"The {name} stopped (SIGKILL)" in process.stdout.readline()
        assert f"The {name} is back" in process.stdout.readline()
        assert len(stage.facts(name)) == 2


def test_what_a_dead_child_leaves_in_its_group_is_ended(stage: Stage) -> None:
    stage.behave("worker", "family")
    stage.up()
    worker = stage.facts("worker")[0]
    os.kill(worker["pid"], signal.SIGKILL)
    until(lambda: not runs(worker["grandchild"]))


def test_killing_the_supervisor_leaves_nothing_and_the_next_start_works(stage: Stage) -> None:
    stage.behave("worker", "stubborn family")
    process, _ = stage.up()
    process.kill()
    process.wait()
    stage.behave("worker", "")
    again = stage.start()  # at once: it waits for the guard to finish
    assert again.stdout is not None
    lines = [again.stdout.readline()]
    while "Ready in" not in lines[-1]:
        lines.append(again.stdout.readline())
        assert lines[-1], "".join(lines)
    assert "waiting for its last processes" in lines[0]
    first = stage.facts("worker")[0]
    assert not runs(first["pid"])
    assert not runs(first["grandchild"])
    again.send_signal(signal.SIGINT)
    assert again.wait(timeout=10) == 0
    assert not stage.alive()


def test_a_second_interrupt_kills_what_does_not_want_to_end(stage: Stage) -> None:
    stage.behave("worker", "stubborn family")
    process, _ = stage.up()
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=3) == 0
    assert not stage.alive()


def test_an_interrupt_while_starting_ends_everything(stage: Stage) -> None:
    stage.behave("database", "slow")
    process = stage.start()
    until(lambda: stage.facts("database"))
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=10) == 0
    assert not stage.alive()


def test_a_taken_port_is_named_with_its_setting_and_its_holder(stage: Stage) -> None:
    with socket.create_server(("127.0.0.1", stage.api_port)):
        process = stage.start()
        out, _ = process.communicate(timeout=15)
    assert process.returncode == 2
    assert f"Port {stage.api_port} is taken" in out
    assert "PYTHONIC_API_PORT" in out
    assert f"(process {os.getpid()})" in out
    assert stage.facts("database") == []


def test_a_second_stack_in_the_same_folder_is_refused(stage: Stage) -> None:
    first, _ = stage.up()
    second = stage.start()
    out, _ = second.communicate(timeout=15)
    assert second.returncode == 2
    assert f"(process {first.pid})" in out
    assert out.count("\n") == 1
    assert first.poll() is None


@pytest.mark.parametrize(("code", "attempts"), [(2, 1), (1, 3)])
def test_a_child_that_cannot_start_is_explained(stage: Stage, code: int, attempts: int) -> None:
    stage.behave("worker", f"fail {code}")
    process = stage.start()
    out, _ = process.communicate(timeout=20)
    assert process.returncode == 1
    assert out.count("The moon is in the wrong phase.") == attempts
    assert out.count("Starting it again") == attempts - 1
    assert f"exit code {code}" in out
    assert "Traceback" not in out
    assert not stage.alive()


def test_a_mistake_in_the_settings_is_one_sentence(stage: Stage) -> None:
    process = stage.start(PYTHONIC_SLOTS="none")
    out, _ = process.communicate(timeout=15)
    assert process.returncode == 2
    assert out == "PYTHONIC_SLOTS is 'none': write a whole number from 1 to 256.\n"


async def test_a_full_disk_and_a_folder_that_cannot_be_are_refused(tmp_path: Path) -> None:
    full = StateFolder(tmp_path / "full", on_wait=print, least_free_bytes=1 << 62)
    with pytest.raises(ConfigurationError, match="MB left: make room"):
        await full.hold()
    full.release()
    (tmp_path / "file").write_text("")
    impossible = StateFolder(tmp_path / "file" / "home", on_wait=print)
    with pytest.raises(ConfigurationError, match="PYTHONIC_HOME"):
        await impossible.hold()
    impossible.release()


async def test_a_killed_guard_is_replaced_and_knows_every_group() -> None:
    guarding = Guarding()
    await guarding.start()
    ward = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "import time; time.sleep(600)", start_new_session=True
    )
    guarding.add(ward.pid)
    async with asyncio.TaskGroup() as group:
        watch = group.create_task(guarding.keep_running())
        first = guarding.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        async with asyncio.timeout(5):
            while guarding.pid == first:
                await asyncio.sleep(0.02)
        watch.cancel()
    await guarding.close()
    async with asyncio.timeout(5):
        assert await ward.wait() == -signal.SIGTERM


def test_a_privileged_or_free_port(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    require_free({"PYTHONIC_PAGE_PORT": port})
    with (
        socket.create_server(("", port)),
        pytest.raises(ConfigurationError, match="PYTHONIC_PAGE_PORT to another"),
    ):
        require_free({"PYTHONIC_PAGE_PORT": port})


def test_large_logs_are_moved_aside_while_they_are_written(tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    assert not shorten(log, limit_bytes=10)
    descriptor = open_log(log)
    try:
        for number in range(4):
            os.write(descriptor, f"part {number}\n".encode() * 10)
            assert not shorten(log, limit_bytes=1000)
            assert shorten(log, limit_bytes=10)
            assert log.stat().st_size == 0
        os.write(descriptor, b"now\n")
    finally:
        os.close(descriptor)
    assert log.read_text() == "now\n"  # at the beginning: no hole where the text was
    assert (tmp_path / "worker.log.1").read_text() == "part 3\n" * 10
    assert (tmp_path / "worker.log.2").read_text() == "part 2\n" * 10
    assert {file.name for file in tmp_path.iterdir()} == {"worker.log", "worker.log.1", "worker.log.2"}
    assert {file.stat().st_mode & 0o777 for file in tmp_path.iterdir()} == {0o600}


def test_logs_are_read_from_the_end(tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    log.write_text("first\nsecond\n\n")
    assert last_line(log, since=0) == "second"
    assert last_line(log, since=log.stat().st_size) == ""
    assert last_line(log, since=1000) == "second"  # shortened meanwhile


def test_the_log_of_a_running_child_stays_small(stage: Stage) -> None:
    stage.behave("worker", "chatty")
    process, _ = stage.up(TEST_LOG_LIMIT="20000")
    logs, below = stage.home / "logs", stage.home / "supabase" / "logs"
    below.mkdir()
    (below / "lite.log").write_text("noise\n" * 10_000)
    until(lambda: (logs / "worker.log.2").exists() and (below / "lite.log.1").exists())
    assert (below / "lite.log").stat().st_size == 0
    assert (logs / "worker.log").stat().st_size < 200_000
    assert (logs / "worker.log.1").stat().st_size < 200_000
    assert len(stage.facts("worker")) == 1  # it was not started again for this
    os.kill(stage.facts("worker")[0]["pid"], signal.SIGKILL)
    assert process.stdout is not None
    assert "The worker stopped (SIGKILL)" in process.stdout.readline()


async def test_a_folder_in_which_others_may_write_is_refused(tmp_path: Path) -> None:
    open_to_all = tmp_path / "home"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    with pytest.raises(ConfigurationError, match="others may write"):
        await StateFolder(open_to_all, on_wait=print).hold()
