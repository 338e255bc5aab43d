"""Signals, tracing, privileges: reaching other processes."""

from __future__ import annotations

from typing import Any

from tests.sandbox.suite.attack import Attack, Layer


def _attack(name: str, code: str, meaning: str, *stopped_by: Layer, **more: Any) -> Attack:
    return Attack(
        name=name, group="signals, ptrace", code=code, meaning=meaning, stopped_by=stopped_by, **more
    )


_HARM = "it can end or disturb processes of the host"
_TAKE = "it can read and change processes that have more power"
# The same number may be a process of the session: then nothing of the host was reached.
_OURS = "if os.path.exists(f\"/proc/{GIVEN['victim']}\"): raise OSError('one of our own')\n"

ATTACKS = (
    _attack(
        "signal to the host",
        "os.kill(GIVEN['victim'], 0)\n" + _OURS + "return 'signalled'",
        _HARM,
        "processes",
        "landlock",
        "user",
    ),
    _attack(
        "signal to a thread of the host",
        "syscall(234 if os.uname().machine == 'x86_64' else 131, GIVEN['victim'], GIVEN['victim'], 15)\n"
        + _OURS
        + "return 'signalled'",
        _HARM,
        "processes",
        "landlock",
        "user",
    ),
    _attack(
        "signal by a process descriptor",
        "p = os.pidfd_open(GIVEN['victim'])\n"
        + _OURS
        + "signal.pidfd_send_signal(p, signal.SIGTERM)\nreturn 'signalled'",
        _HARM,
        "processes",
        "landlock",
        "user",
    ),
    _attack(
        "signal as the owner of a file",
        "r, w = os.pipe()\n"
        + _OURS
        + "fcntl.fcntl(r, fcntl.F_SETOWN, GIVEN['victim'])\nfcntl.fcntl(r, 10, signal.SIGKILL)\n"
        "fcntl.fcntl(r, fcntl.F_SETFL, os.O_ASYNC)\nos.write(w, b'x')\ntime.sleep(0.1)\n"
        "raise OSError('the host says whether its process lives')",
        _HARM,
        "processes",
        "landlock",
        "user",
    ),
    _attack(
        "signal to everybody",
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "os.kill(-1, signal.SIGTERM)\ntime.sleep(0.05)\n"
        "raise OSError('the host says whether its process lives')",
        _HARM,
        "processes",
        "landlock",
        "user",
    ),
    _attack(
        "lower a limit of the host's process",
        "permitted(resource.prlimit, GIVEN['victim'], resource.RLIMIT_NOFILE, (4, 4))\n"
        + _OURS
        + "return 'lowered'",
        _HARM,
        "processes",
        "user",
        "seccomp",
    ),
    _attack(
        "priority of the host's process",
        "os.setpriority(os.PRIO_PROCESS, GIVEN['victim'], 19)\n" + _OURS + "return 'lowered'",
        _HARM,
        "processes",
        "user",
        "seccomp",
    ),
    _attack(
        "processors of the host's process",
        "os.sched_setaffinity(GIVEN['victim'], {0})\n" + _OURS + "return 'bound'",
        _HARM,
        "processes",
        "user",
        "seccomp",
    ),
    _attack(
        "kill init",
        "os.kill(1, signal.SIGKILL)\ntime.sleep(0.05)\nos.kill(1, 0)\nraise OSError('it ignores us')",
        "it outlives what looks after it",
        "processes",
        "landlock",
    ),
    _attack(
        "stop init",
        "os.kill(1, signal.SIGSTOP)\ntime.sleep(0.05)\n"
        "state = open('/proc/1/stat').read().split(')')[1].split()[0]\n"
        "if state == 'T': return state\nraise OSError('it goes on')",
        "nobody watches its memory",
        "processes",
        "landlock",
    ),
    _attack("ptrace init", "return syscall('ptrace', 16, 1, 0, 0)", _TAKE, "seccomp", "landlock"),
    _attack("seize init", "return syscall('ptrace', 0x4206, 1, 0, 0)", _TAKE, "seccomp", "landlock"),
    _attack("ptrace at all", "return syscall('ptrace', 0, 0, 0, 0)", _TAKE, "seccomp"),
    _attack(
        "read init's memory",
        "b = room(8)\nv = struct.pack('PN', ctypes.addressof(b), 8)\n"
        "return syscall('process_vm_readv', 1, v, 1, v, 1, 0)",
        _TAKE,
        "seccomp",
        "landlock",
    ),
    _attack(
        "write init's memory",
        "b = room(8)\nv = struct.pack('PN', ctypes.addressof(b), 8)\n"
        "return syscall('process_vm_writev', 1, v, 1, v, 1, 0)",
        _TAKE,
        "seccomp",
        "landlock",
    ),
    _attack(
        "steal a descriptor of init",
        "return syscall('pidfd_getfd', os.pidfd_open(1), 4, 0)",
        _TAKE,
        "seccomp",
        "landlock",
    ),
    _attack(
        "compare kernel objects",
        "return syscall('kcmp', os.getpid(), os.getpid(), 0, 0, 0)",
        "it learns the order of kernel addresses",
        "seccomp",
    ),
    _attack("become root", "os.setuid(0)\nreturn 'root'", "it is root", "user", "capabilities"),
    _attack("become another user", "os.setresuid(65534, 65534, 65534)\nreturn os.getuid()", _HARM, "user"),
    _attack("join other groups", "os.setgroups([0])\nreturn os.getgroups()", "it gains rights", "user"),
    _attack(
        "any capability",
        "for line in open('/proc/self/status'):\n"
        "    kinds = ('CapPrm', 'CapEff', 'CapInh', 'CapAmb')\n"
        "    if line.startswith(kinds) and int(line.split()[1], 16): return line\n"
        "    if line.startswith('NoNewPrivs') and line.split()[1] != '1': return line\n"
        "raise OSError('none')",
        "it has privileges",
        "capabilities",
    ),
    _attack(
        "raise a limit",
        "s, h = resource.getrlimit(resource.RLIMIT_NOFILE)\n"
        "permitted(resource.setrlimit, resource.RLIMIT_NOFILE, (h + 1, h + 1))\nreturn 'raised'",
        "its limits are only suggestions",
        "limits",
        "capabilities",
    ),
    _attack(
        "real time priority",
        "os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))\nreturn 'first in line'",
        "it can take the processor from the host",
        "limits",
        "capabilities",
    ),
    _attack(
        "be nicer to itself", "return os.nice(-10)", "it can take the processor", "limits", "capabilities"
    ),
    _attack(
        "leave a core",
        "permitted(resource.setrlimit, resource.RLIMIT_CORE, (2, 2))\nreturn 1",
        _HARM,
        "limits",
    ),
)
