"""Environment and /proc: learning secrets of processes, changing the kernel's settings."""

from __future__ import annotations

from typing import Any

from tests.sandbox.suite.attack import Attack, Layer


def _attack(name: str, code: str, meaning: str, *stopped_by: Layer, **more: Any) -> Attack:
    return Attack(
        name=name, group="environ, /proc", code=code, meaning=meaning, stopped_by=stopped_by, **more
    )


_KEYS = "it can read the keys of the worker"
_MACHINE = "it can change or crash the machine"

ATTACKS = (
    _attack(
        "own environment",
        "found = [k for k in os.environ if k.startswith(('OPENAI', 'SUPABASE', 'PYTHONIC', 'PYTEST'))]\n"
        "if found: return found\nraise OSError('nothing of the host')",
        _KEYS,
        "host",
    ),
    _attack(
        "environment that the kernel kept",
        "t = open('/proc/self/environ').read()\nif GIVEN['canary'] in t: return t\nraise OSError('none')",
        _KEYS,
        "host",
    ),
    _attack(
        "environment of every process",
        "for p in glob.glob('/proc/[0-9]*/environ'):\n"
        "    try: t = open(p).read()\n"
        "    except OSError: continue\n"
        "    if GIVEN['canary'] in t: return p\n"
        "raise OSError('not found')",
        _KEYS,
        "processes",
        "landlock",
        "user",
    ),
    _attack(
        "environment of the worker",
        "t = open(f\"/proc/{GIVEN['worker']}/environ\").read()\n"
        "if GIVEN['canary'] in t: return t\nraise OSError('another process')",
        _KEYS,
        "processes",
        "landlock",
        "user",
    ),
    _attack("environment of init", "return open('/proc/1/environ').read() or 'readable'", _KEYS, "processes"),
    _attack("host root through init", "return os.listdir('/proc/1/root/etc')", _KEYS, "processes"),
    _attack("host folder through init", "return os.listdir('/proc/1/cwd/..')", _KEYS, "processes"),
    _attack("descriptors of init", "return os.listdir('/proc/1/fd')", _KEYS, "processes", "landlock"),
    _attack("memory of init", "return open('/proc/1/mem', 'r+b')", _KEYS, "processes", "landlock"),
    _attack("mapped files of init", "return os.listdir('/proc/1/map_files')", _KEYS, "processes", "landlock"),
    _attack(
        "descriptors of the worker",
        "return os.listdir(f\"/proc/{GIVEN['worker']}/fd\")",
        _KEYS,
        "processes",
        "landlock",
        "user",
    ),
    _attack(
        "foreign processes",
        "names = [p.read_text() for p in pathlib.Path('/proc').glob('[0-9]*/comm')]\n"
        "if len(names) > 4: return names\nraise OSError('only ours')",
        "it learns what runs on the host",
        "processes",
        "landlock",
    ),
    _attack("core pattern", "return open('/proc/sys/kernel/core_pattern', 'w')", _MACHINE, "root", "user"),
    _attack("sysrq", "return open('/proc/sysrq-trigger', 'w')", _MACHINE, "root", "user"),
    _attack("kernel memory", "return open('/proc/kcore', 'rb')", _MACHINE, "root", "capabilities"),
    _attack(
        "kernel addresses",
        "t = open('/proc/kallsyms').readline()\nif int(t.split()[0], 16): return t\nraise OSError('zeros')",
        "it learns where the kernel lies",
        "root",
        "landlock",
        "capabilities",
    ),
    _attack("kernel settings in /sys", "return os.listdir('/sys/kernel')", _MACHINE, "root", "landlock"),
    _attack(
        "cgroup files", "return os.listdir('/sys/fs/cgroup')", "it can lift its limits", "root", "landlock"
    ),
    _attack(
        "choice of victims when memory ends",
        "open('/proc/self/oom_score_adj', 'w').write('1000')\nreturn 'changed'",
        "it can write to files of /proc",
        "landlock",
    ),
)
