"""The supervisor with real processes: small stand-ins for database, worker and page."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import time
from pathlib import Path

import pytest

from pythonic_assistant.domain.errors import ConfigurationError
from supervisor.guarding import Guarding
from supervisor.log_file import last_line, open_log, shorten
from supervisor.ports import require_free
from supervisor.state import StateFolder
from tests.integration.stage import Stage, free_ports, runs, until


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
    assert worker["environment"]["SUPABASE_DB_URL"] == "postgresql://canary@/postgres?host=/socket"
    assert "canary@" not in json.dumps(page["environment"])
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
