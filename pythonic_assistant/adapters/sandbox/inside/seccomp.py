"""The system call filter: what generated code has no use for is refused with EPERM.

A list of refusals, not of permissions: with a list of permissions, libraries fail in odd places when they
are updated. System calls newer than the table answer ENOSYS, as on an older kernel.

Sources of the numbers: arch/x86/entry/syscalls/syscall_64.tbl, include/uapi/asm-generic/unistd.h.
"""

from __future__ import annotations

import ctypes
import errno
import socket
import struct
from collections.abc import Callable, Iterable, Sequence

from .syscalls import LIBC, MACHINE, PR_SET_SECCOMP, checked

# name: (x86_64, aarch64); None where the machine has no such call
REFUSED: dict[str, tuple[int | None, int | None]] = {
    # other processes
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kcmp": (312, 272),
    "pidfd_getfd": (438, 438),
    "process_madvise": (440, 440),
    "process_mrelease": (448, 448),
    # namespaces and mounts
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "open_tree_attr": (467, 467),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "statmount": (457, 457),
    "listmount": (458, 458),
    # large kernel surfaces with a history of holes
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "vmsplice": (278, 75),
    "fanotify_init": (300, 262),
    "fanotify_mark": (301, 263),
    # memory that no limit of the session counts
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
    "msgget": (68, 186),
    "mq_open": (240, 180),
    # the machine itself
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "create_module": (174, None),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "acct": (163, 89),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "clock_adjtime": (305, 266),
    "adjtimex": (159, 171),
    "iopl": (172, None),
    "ioperm": (173, None),
    "modify_ldt": (154, None),
    "syslog": (103, 116),
    "vhangup": (153, 58),
    "lsm_set_self_attr": (460, 460),
    # files by other ways than paths, and device nodes
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "mknod": (133, None),
    "mknodat": (259, 33),
    # relics and NUMA placement
    "lookup_dcookie": (212, 18),
    "uselib": (134, None),
    "ustat": (136, None),
    "sysfs": (139, None),
    "_sysctl": (156, None),
    "nfsservctl": (180, 42),
    "personality": (135, 92),
    "remap_file_pages": (216, 234),
    "mbind": (237, 235),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    "set_mempolicy": (238, 237),
    "set_mempolicy_home_node": (450, 450),
}
_COLUMN = {"x86_64": 0, "aarch64": 1}
_CLONE = {"x86_64": 56, "aarch64": 220}
_SOCKET = {"x86_64": 41, "aarch64": 198}
_IOCTL = {"x86_64": 16, "aarch64": 29}
_CLONE3 = 435
_FIRST_UNKNOWN = 470  # Linux 6.17 ends at 469; later calls are not known to be harmless
_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # include/uapi/linux/audit.h
_X32_BIT = 0x40000000
_ALLOWED_FAMILIES = (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6)
# CLONE_NEWTIME, NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET
_CLONE_NEW_ANY = 0x80 | 0x20000 | 0x2000000 | 0x4000000 | 0x8000000 | 0x10000000 | 0x20000000 | 0x40000000
_TERMINAL_INPUT = (0x5412, 0x541C)  # TIOCSTI, TIOCLINUX: typing into somebody's terminal

# struct seccomp_data: nr at 0, arch at 4, arguments (little endian, 8 bytes each) from 16
_NR, _ARCH, _ARG0, _ARG1 = 0, 4, 16, 24
# include/uapi/linux/bpf_common.h
_LOAD, _RETURN, _AND = 0x20, 0x06, 0x54
JUMP_EQUAL, _JUMP_AT_LEAST, _JUMP_ANY_BIT = 0x15, 0x35, 0x45
# include/uapi/linux/seccomp.h
_SECCOMP_MODE_FILTER = 2
_ALLOW = 0x7FFF0000
_KILL_PROCESS = 0x80000000
_ERRNO = 0x00050000


class Program:
    """Assembles classic BPF. Between the rules the accumulator holds the number of the system call."""

    def __init__(self) -> None:
        self._code: list[tuple[int, int, int, int]] = []

    def load(self, offset: int) -> None:
        self._code.append((_LOAD, 0, 0, offset))

    def jump(self, test: int, value: int, *, then: int, otherwise: int) -> None:
        self._code.append((test, then, otherwise, value))

    def answer(self, action: int) -> None:
        self._code.append((_RETURN, 0, 0, action))

    def load_number(self) -> None:
        """Go on to the next rule."""
        self.load(_NR)

    def refuse(self, numbers: Iterable[int | None]) -> None:
        """Refuse system calls; None is one that the machine does not have."""
        self._each(numbers, _ERRNO | errno.EPERM)

    def ignore(self, numbers: Iterable[int | None]) -> None:
        """Let system calls succeed without doing anything."""
        self._each(numbers, _ERRNO)

    def require(self, number: int | None, argument: int, values: Sequence[int], mask: int = 0) -> None:
        """Refuse a system call unless an argument (0 to 5, its low half) has one of these values."""
        if number is None:
            return
        self.jump(JUMP_EQUAL, number, then=0, otherwise=len(values) + 3 + bool(mask))
        self._load_argument(argument, mask)
        for index, value in enumerate(values):
            self.jump(JUMP_EQUAL, value, then=len(values) - index, otherwise=0)
        self.answer(_ERRNO | errno.EPERM)
        self.load_number()

    def refuse_values(self, number: int | None, argument: int, values: Sequence[int]) -> None:
        """Refuse a system call if an argument (0 to 5, its low half) has one of these values."""
        if number is None:
            return
        self.jump(JUMP_EQUAL, number, then=0, otherwise=len(values) * 2 + 2)
        self._load_argument(argument, 0)
        for value in values:
            self.answer_if(JUMP_EQUAL, value, _ERRNO | errno.EPERM)
        self.load_number()

    def _load_argument(self, argument: int, mask: int) -> None:
        self.load(_ARG0 + 8 * argument)
        if mask:
            self._code.append((_AND, 0, 0, mask))

    def _each(self, numbers: Iterable[int | None], action: int) -> None:
        for number in sorted({number for number in numbers if number is not None}):
            self.answer_if(JUMP_EQUAL, number, action)

    def answer_if(self, test: int, value: int, action: int) -> None:
        self.jump(test, value, then=0, otherwise=1)
        self.answer(action)

    def assembled(self) -> tuple[bytes, int]:
        return b"".join(struct.pack("HBBI", *line) for line in self._code), len(self._code)


def program(
    machine: str = MACHINE, before: Callable[[Program, int], None] | None = None
) -> tuple[bytes, int]:
    """Return the filter for a machine, and how many instructions it has.

    Args:
        machine: as `uname -m` says.
        before: adds rules that come before the usual ones; is given the machine's column of the tables.

    Raises:
        KeyError: there is no table for this machine.
    """
    refuse, unknown = _ERRNO | errno.EPERM, _ERRNO | errno.ENOSYS
    column = _COLUMN[machine]
    code = Program()
    code.load(_ARCH)
    # A foreign calling convention (int 0x80, 32-bit ARM) would be read with the wrong table.
    code.jump(JUMP_EQUAL, _AUDIT_ARCH[machine], then=1, otherwise=0)
    code.answer(_KILL_PROCESS)
    code.load(_NR)
    if machine == "x86_64":
        code.answer_if(_JUMP_AT_LEAST, _X32_BIT, refuse)
    if before is not None:
        before(code, column)
    code.refuse(row[column] for row in REFUSED.values())
    # clone3 hides its flags behind a pointer that a filter cannot read; libc falls back to clone.
    code.answer_if(JUMP_EQUAL, _CLONE3, unknown)
    code.answer_if(_JUMP_AT_LEAST, _FIRST_UNKNOWN, unknown)

    code.jump(JUMP_EQUAL, _CLONE[machine], then=0, otherwise=4)
    code.load(_ARG0)
    code.jump(_JUMP_ANY_BIT, _CLONE_NEW_ANY, then=0, otherwise=1)
    code.answer(refuse)
    code.answer(_ALLOW)

    code.jump(JUMP_EQUAL, _IOCTL[machine], then=0, otherwise=len(_TERMINAL_INPUT) * 2 + 2)
    code.load(_ARG1)
    for request in _TERMINAL_INPUT:
        code.answer_if(JUMP_EQUAL, request, refuse)
    code.answer(_ALLOW)

    code.jump(JUMP_EQUAL, _SOCKET[machine], then=0, otherwise=len(_ALLOWED_FAMILIES) * 2 + 2)
    code.load(_ARG0)
    for family in _ALLOWED_FAMILIES:
        code.answer_if(JUMP_EQUAL, family, _ALLOW)
    code.answer(refuse)

    code.answer(_ALLOW)
    return code.assembled()


def install(before: Callable[[Program, int], None] | None = None) -> None:
    """Filter this process and all its children from now on. `no_new_privs` must be set.

    Args:
        before: see `program`.
    """
    instructions, count = program(before=before)
    code = ctypes.create_string_buffer(instructions, len(instructions))
    # struct sock_fprog: unsigned short len, then a pointer at its natural alignment
    header = ctypes.create_string_buffer(struct.pack("@HP", count, ctypes.addressof(code)), 16)
    result = LIBC.prctl(
        PR_SET_SECCOMP, ctypes.c_ulong(_SECCOMP_MODE_FILTER), header, ctypes.c_ulong(0), ctypes.c_ulong(0)
    )
    checked(int(result), "seccomp")
