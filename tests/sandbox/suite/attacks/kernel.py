"""Surfaces of the kernel that generated code has no use for and that have had holes."""

from __future__ import annotations

from typing import Any

from tests.sandbox.suite.attack import Attack, Layer


def _attack(name: str, code: str, *stopped_by: Layer, meaning: str = "", **more: Any) -> Attack:
    return Attack(
        name=name,
        group="kernel",
        code=code,
        meaning=meaning or "a part of the kernel with a history of holes is open to it",
        stopped_by=stopped_by,
        **more,
    )


_UNCOUNTED = "it can use memory that no limit counts"
_MACHINE = "it can change or stop the machine"
_CODE = (
    "page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)\n"
    "page.write(bytes({code}))\n"
    "call = ctypes.CFUNCTYPE(ctypes.c_long)(ctypes.addressof(ctypes.c_char.from_buffer(page)))\n"
    "answer = call()\nif answer < 0: raise OSError(-answer, os.strerror(-answer))\nreturn answer"
)


def _family(name: str, number: int, kind: str = "SOCK_DGRAM") -> Attack:
    return _attack(
        f"sockets of {name}", f"return socket.socket({number}, socket.{kind})", "seccomp", "capabilities"
    )


ATTACKS = (
    _attack("io_uring", "return syscall('io_uring_setup', 8, room(120))", "seccomp"),
    _attack("userfaultfd", "return syscall('userfaultfd', 1)", "seccomp"),
    _attack("bpf", "return syscall('bpf', 0, room(128), 128)", "seccomp", "capabilities"),
    _attack("perf", "return syscall('perf_event_open', room(128), 0, -1, -1, 0)", "seccomp"),
    _attack("keyring", "return syscall('keyctl', 0, -3, 1)", "seccomp"),
    _attack("adding a key", "return syscall('add_key', b'user', b'a', b'b', 1, -3)", "seccomp"),
    _attack("vmsplice", "r, w = os.pipe()\nreturn syscall('vmsplice', w, room(16), 0, 0)", "seccomp"),
    _attack("watching the whole file system", "return syscall('fanotify_init', 0x200, 0)", "seccomp"),
    _attack(
        "handles of files", "return syscall('name_to_handle_at', -100, b'/', room(64), room(8), 0)", "seccomp"
    ),
    _attack(
        "local descriptor table", "return syscall('modify_ldt', 0, room(64), 64)", "seccomp", machine="x86_64"
    ),
    _attack("other personalities", "return syscall('personality', 0x0040000)", "seccomp"),
    _attack("moving pages", "return syscall('move_pages', 0, 0, 0, 0, 0, 0)", "seccomp"),
    _attack("unknown system call", "return syscall(999, 0)", "seccomp"),
    _attack(
        "call with other flags in its upper half",
        "return syscall('clone', (1 << 32) | 0x10000000 | 17, 0, 0, 0, 0)",
        "seccomp",
    ),
    _attack(
        "typing into a terminal",
        "return fcntl.ioctl(0, 0x5412, b'x')",
        "seccomp",
        meaning="it can type commands where the worker was started",
    ),
    _attack(
        "typing with other bits set",
        "return syscall(16 if os.uname().machine == 'x86_64' else 29, 0, (1 << 32) | 0x5412, b'x')",
        "seccomp",
        meaning="it can type commands where the worker was started",
    ),
    _attack(
        "32-bit calls",  # getpid by int 0x80: any filter that reads numbers only would take it for another
        _CODE.format(code="[0xB8, 20, 0, 0, 0, 0xCD, 0x80, 0x48, 0x98, 0xC3]"),
        "seccomp",
        machine="x86_64",
        death=("SIGSYS",),
    ),
    _attack("x32 calls", "return syscall(0x40000000 | N['getpid'])", "seccomp", machine="x86_64"),
    _attack(
        "taking the filter off",
        "libc.prctl(22, 0, 0, 0, 0)\n"
        "mode = [line for line in open('/proc/self/status') if line.startswith('Seccomp:')]\n"
        "if mode[0].split()[1] != '2': return mode\nreturn syscall('unshare', 0x10000000)",
        "seccomp",
    ),
    _attack("memory file", "return os.memfd_create('hidden')", "seccomp", meaning=_UNCOUNTED),
    _attack("secret memory", "return syscall('memfd_secret', 0)", "seccomp", meaning=_UNCOUNTED),
    _attack(
        "shared memory segment", "return syscall('shmget', 0, 4096, 0o1600)", "seccomp", meaning=_UNCOUNTED
    ),
    _attack("message queue", "return syscall('msgget', 0, 0o1600)", "seccomp", meaning=_UNCOUNTED),
    _attack(
        "named message queue",
        "return syscall('mq_open', b'q', 0x42, 0o600, 0)",
        "seccomp",
        meaning=_UNCOUNTED,
    ),
    _attack("kernel module", "return syscall('init_module', room(64), 64, b'')", "seccomp", meaning=_MACHINE),
    _attack("another kernel", "return syscall('kexec_load', 0, 0, 0, 0)", "seccomp", meaning=_MACHINE),
    _attack("reboot", "return syscall('reboot', 0xFEE1DEAD, 672274793, 0, 0)", "seccomp", meaning=_MACHINE),
    _attack(
        "clock", "return syscall('clock_settime', 0, struct.pack('QQ', 0, 0))", "seccomp", meaning=_MACHINE
    ),
    _attack("kernel log", "return syscall('syslog', 3, room(), 256)", "seccomp", meaning=_MACHINE),
    _attack("swap", "return syscall('swapoff', b'/swap')", "seccomp", meaning=_MACHINE),
    _attack(
        "ports of the hardware", "return syscall('iopl', 3)", "seccomp", machine="x86_64", meaning=_MACHINE
    ),
    _family("vsock", 40, "SOCK_STREAM"),
    _family("netlink", 16, "SOCK_RAW"),
    _family("packets", 17, "SOCK_RAW"),
    _family("the crypto interface", 38, "SOCK_SEQPACKET"),
    _family("keys", 15, "SOCK_RAW"),
    _family("express data path", 44, "SOCK_RAW"),
    _family("bluetooth", 31, "SOCK_RAW"),
    _family("clusters (TIPC)", 30),
    _family("a number of more than 32 bits", (1 << 31) - 1),
)
