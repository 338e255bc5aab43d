"""Using up the host: processes, memory, disk, output, descriptors, time.

Limits are small, so that a bomb that goes off does no harm.
"""

from __future__ import annotations

from typing import Any

from tests.sandbox.suite.attack import Attack, Layer

_MIB = 1 << 20
_LIMITS = {
    "memory_bytes": 256 * _MIB,
    "processes": 8,
    "cpu_seconds": 30,
    "disk_bytes": 8 * _MIB,
    "inodes": 64,
    "output_bytes": 64 << 10,
    "open_files": 64,
}


def _attack(name: str, code: str, *stopped_by: Layer, meaning: str = "", **more: Any) -> Attack:
    return Attack(
        name=name,
        group="bombs",
        code=code,
        meaning=meaning or "one task can take the machine from all others",
        stopped_by=stopped_by,
        limits={**_LIMITS, **more.pop("limits", {})},
        **more,
    )


_MEMORY = ("memory", "SIGKILL")
_DISK = ("disk", "memory", "inodes")

ATTACKS = (
    _attack(
        "fork bomb",
        "for count in range(40):\n"
        "    if os.fork() == 0: time.sleep(20); os._exit(0)\n"
        "time.sleep(1)\nreturn count",
        "limits",
        "watchdog",
        death=("processes",),
    ),
    _attack(
        "fork bomb that never waits",
        "until = time.monotonic() + 20\n"
        "while time.monotonic() < until:\n"
        "    try: os.fork()\n"
        "    except OSError: pass\n",
        "limits",
        forged=True,
        seconds=1.0,
    ),
    _attack(
        "thread bomb",
        "def sit(): time.sleep(20)\n"
        "for count in range(40):\n"
        "    try: threading.Thread(target=sit, daemon=True).start()\n"
        "    except RuntimeError as error: raise OSError(str(error))\n"
        "return count",
        "limits",
    ),
    _attack(
        "memory in one piece",
        "try: piece = bytearray(1 << 30)\n"
        "except MemoryError as error: raise OSError('no memory')\n"
        "return len(piece)",
        "limits",
        "watchdog",
        death=_MEMORY,
    ),
    _attack(
        "memory in small pieces",
        "pieces = []\n"
        "try:\n"
        "    for _ in range(64): pieces.append(bytearray(os.urandom(16)) * (1 << 20)); time.sleep(0.01)\n"
        "except MemoryError: raise OSError('no memory')\n"
        "return len(pieces)",
        "limits",
        "watchdog",
        death=_MEMORY,
    ),
    _attack(
        "memory of many processes",
        "for _ in range(5):\n"
        "    if os.fork() == 0:\n"
        "        held = []\n"
        "        for _ in range(10): held.append(bytearray(b'x' * (10 << 20))); time.sleep(0.05)\n"
        "        time.sleep(20)\n"
        "time.sleep(2.5)\nreturn 'five hundred megabytes'",
        "watchdog",
        death=_MEMORY,
    ),
    _attack(
        "shared pages",
        "held = mmap.mmap(-1, 512 << 20)\n"
        "for at in range(0, 512 << 20, 16 << 20):\n"
        "    held[at:at + (16 << 20)] = b'x' * (16 << 20)\n"
        "    time.sleep(0.03)\n"
        "return 'half a gigabyte'",
        "watchdog",
        death=_MEMORY,
    ),
    _attack(
        "hiding from the watchdog",
        "libc.prctl(4, 0, 0, 0, 0)\n"
        "held = mmap.mmap(-1, 512 << 20)\n"
        "for at in range(0, 512 << 20, 16 << 20):\n"
        "    held[at:at + (16 << 20)] = b'x' * (16 << 20)\n"
        "    time.sleep(0.03)\n"
        "return 'half a gigabyte'",
        "watchdog",
        death=_MEMORY,
    ),
    _attack(
        "files in shared memory",
        "with open('/dev/shm/big', 'wb') as f:\n"
        "    for _ in range(32): f.write(b'x' * (16 << 20)); time.sleep(0.03)\n"
        "return 'half a gigabyte'",
        "limits",
        "watchdog",
        death=_MEMORY,
    ),
    _attack(
        "locked memory",
        "held = mmap.mmap(-1, 32 << 20)\n"
        "if libc.mlock(ctypes.c_void_p(ctypes.addressof(ctypes.c_char.from_buffer(held))), "
        "ctypes.c_size_t(32 << 20)): raise OSError(ctypes.get_errno(), 'mlock')\n"
        "return 'locked'",
        "limits",
        "capabilities",
    ),
    _attack(
        "one large file",
        "with open('big', 'wb') as f:\n"
        "    for _ in range(40): f.write(b'x' * (1 << 20)); f.flush(); time.sleep(0.02)\n"
        "return 'forty megabytes'",
        "limits",
        "watchdog",
        death=_DISK,
    ),
    _attack(
        "many files",
        "for n in range(40):\n    open(f'f{n}', 'wb').write(b'x' * (1 << 20)); time.sleep(0.03)\n"
        "time.sleep(0.5)\nreturn 'forty megabytes'",
        "limits",
        "watchdog",
        death=_DISK,
    ),
    _attack(
        "temporary files count too",
        "for n in range(20):\n"
        "    open(f'f{n}', 'wb').write(b'x' * (1 << 20))\n"
        "    open(f'{tempfile.gettempdir()}/f{n}', 'wb').write(b'x' * (1 << 20)); time.sleep(0.03)\n"
        "time.sleep(0.5)\nreturn 'forty megabytes'",
        "limits",
        "watchdog",
        death=_DISK,
    ),
    _attack(
        "deleted files that stay open",
        "held = []\n"
        "for n in range(40):\n"
        "    f = open('f', 'wb'); os.remove('f'); f.write(b'x' * (1 << 20)); f.flush()\n"
        "    held.append(f); time.sleep(0.03)\n"
        "time.sleep(0.5)\nreturn 'forty megabytes'",
        "limits",
        "watchdog",
        death=_DISK,
    ),
    _attack("sparse file", "with open('big', 'wb') as f: f.truncate(1 << 40)\nreturn 'a terabyte'", "limits"),
    _attack(
        "reserved blocks",
        "with open('big', 'wb') as f: os.posix_fallocate(f.fileno(), 0, 64 << 20)\nreturn 'reserved'",
        "limits",
    ),
    _attack(
        "inodes",
        "for n in range(400):\n    open(f'f{n}', 'w').close(); time.sleep(0.002)\n"
        "time.sleep(0.5)\nreturn 'four hundred files'",
        "limits",
        "watchdog",
        death=_DISK,
    ),
    _attack(
        "folders within folders",
        "for _ in range(400):\n    os.mkdir('d'); os.chdir('d'); time.sleep(0.002)\n"
        "time.sleep(0.5)\nreturn 'four hundred folders'",
        "limits",
        "watchdog",
        death=_DISK,
    ),
    _attack(
        "output",
        "for _ in range(320): os.write(1, b'x' * 65536)\nreturn 'twenty megabytes'",
        "host",
        meaning="the worker's memory fills with output",
        forged=True,
    ),
    _attack(
        "output after the end of the step",
        "if os.fork() == 0:\n"
        "    for _ in range(2000): os.write(1, b'x' * 65536)\n"
        "    os._exit(0)\n"
        "raise OSError('the host counts')",
        "host",
        meaning="the worker's memory fills with output",
        forged=True,
    ),
    _attack(
        "an endless value",
        "raise RuntimeError('x' * (50 << 20))",
        "host",
        meaning="the worker's memory fills with a message",
        forged=True,
    ),
    _attack(
        "descriptors",
        "held = [os.open('/dev/null', os.O_RDONLY) for _ in range(200)]\nreturn len(held)",
        "limits",
    ),
    _attack(
        "descriptors in flight",
        "pairs, sent = [], 0\n"
        "while sent < 2000:\n"
        "    if len(pairs) < 20: pairs.append(socket.socketpair())\n"
        "    a, _ = pairs[sent // 50 % len(pairs)]\n"
        "    a.setblocking(False)\n"
        "    socket.send_fds(a, [b'x'], [0] * 50); sent += 50\n"
        "return sent",
        "limits",
    ),
    _attack(
        "an endless loop that ignores the interrupt",
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass",
        "host",
        death=("did not stop",),
        seconds=0.5,
    ),
    _attack(
        "processor time",
        "while True: pass",
        "limits",
        death=("cpu_seconds",),
        limits={"cpu_seconds": 1},
        seconds=40.0,
    ),
    _attack(
        "processor time, with the warning ignored",
        "signal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass",
        "limits",
        death=("SIGKILL", "cpu_seconds"),
        limits={"cpu_seconds": 1},
        seconds=40.0,
    ),
    _attack(
        "stopping itself",
        "os.kill(os.getpid(), signal.SIGSTOP)\nreturn 'continued'",
        "host",
        meaning="a session that hangs holds its slot for ever",
        death=("did not stop",),
        seconds=0.5,
    ),
)
