"""What the system call filter has to refuse beyond `seccomp.py` where no namespaces hide the host.

Landlock knows files by what is opened, and signals since its version 6. What acts on a process by its
number, on a file by its name without opening it, or on something that has no name in the file system, is
stopped here.

Sources: as `seccomp.py`; the limits of Landlock in Documentation/userspace-api/landlock.rst.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass

from .seccomp import Program

# name: (x86_64, aarch64); None where the machine has no such call
Row = tuple[int | None, int | None]
REFUSED: dict[str, Row] = {
    # the host's network: only pairs of sockets are left. With sendmsg, files could be hidden in flight.
    "socket": (41, 198),
    "connect": (42, 203),
    "bind": (49, 200),
    "listen": (50, 201),
    "accept": (43, 202),
    "accept4": (288, 242),
    "sendmsg": (46, 211),
    "sendmmsg": (307, 269),
    # the process group, so that one signal ends a session
    "setsid": (112, 157),
    "setpgid": (109, 154),
    # System V and POSIX queues, semaphores and segments, which the host's processes share
    "shmat": (30, 196),
    "shmctl": (31, 195),
    "semget": (64, 190),
    "semctl": (66, 191),
    "semop": (65, 193),
    "semtimedop": (220, 192),
    "msgctl": (71, 187),
    "msgrcv": (70, 188),
    "msgsnd": (69, 189),
    "mq_unlink": (241, 181),
    # files by their names
    "inotify_add_watch": (254, 27),
    # other processes of the same user
    "ioprio_set": (251, 30),
}
# On files of the same user anywhere on the host; what a session's own user may not do, the kernel refuses.
REFUSED_AS_OWNER: dict[str, Row] = {
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    "setxattrat": (463, 463),
    "removexattr": (197, 14),
    "lremovexattr": (198, 15),
    "fremovexattr": (199, 16),
    "removexattrat": (466, 466),
    "file_setattr": (469, 469),
}
# Libraries call these after each copy and would fail if they were refused.
IGNORED_AS_OWNER: dict[str, Row] = {
    "chmod": (90, None),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "chown": (92, None),
    "fchown": (93, 55),
    "lchown": (94, None),
    "fchownat": (260, 54),
    "utime": (132, None),
    "utimes": (235, None),
    "futimesat": (261, None),
    "utimensat": (280, 88),
}
# Before version 3 of Landlock
REFUSED_TRUNCATION: dict[str, Row] = {"truncate": (76, 45)}
# Before version 6 of Landlock
REFUSED_SIGNALS: dict[str, Row] = {
    "tkill": (200, 130),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "pidfd_send_signal": (424, 424),
}
_KILL, _TGKILL = (62, 129), (234, 131)
_SOCKETPAIR = (53, 199)
_PRCTL = (157, 167)
_FCNTL, _IOCTL = (72, 25), (16, 29)
# Their first argument is a process; 0 is the caller.
_OF_CALLER_ONLY: dict[str, tuple[int, int]] = {
    "prlimit64": (302, 261),
    "sched_setaffinity": (203, 122),
    "sched_setscheduler": (144, 119),
    "sched_setparam": (142, 118),
    "sched_setattr": (314, 274),
    "setpriority": (141, 140),  # PRIO_PROCESS is 0; the second argument is checked as well
}
_SOCKET_TYPE = 0xF  # SOCK_TYPE_MASK, include/linux/net.h
_PR_SET_DUMPABLE = 4
# include/uapi/linux/fcntl.h, include/uapi/asm-generic/fcntl.h
_F_SETOWN, _F_SETSIG, _F_SETOWN_EX, _F_SETLEASE, _F_NOTIFY = 8, 10, 15, 1024, 1026
# include/uapi/asm-generic/sockios.h, ioctls.h
_FIOSETOWN, _SIOCSPGRP, _FIOASYNC = 0x8901, 0x8902, 0x5452
# include/uapi/linux/fs.h
_FS_IOC_SETFLAGS, _FS_IOC_FSSETXATTR = 0x40086602, 0x401C5820


@dataclass(frozen=True, slots=True, kw_only=True)
class Bare:
    """Rules for a session without namespaces; call it with a program.

    Attributes:
        process: the only process that may be signalled where Landlock does not see to it.
        own_user: whether the session runs as a user of its own, to whom nothing else belongs.
        landlock: the version of Landlock that stands beside this filter.
    """

    process: int
    own_user: bool
    landlock: int

    def __call__(self, code: Program, column: int) -> None:
        """Add the rules. See `seccomp.program`."""
        refused = dict(REFUSED)
        if not self.own_user:
            refused |= REFUSED_AS_OWNER
            code.ignore(row[column] for row in IGNORED_AS_OWNER.values())
            code.refuse_values(_IOCTL[column], 1, (_FS_IOC_SETFLAGS, _FS_IOC_FSSETXATTR))
        if self.landlock < 3:
            refused |= REFUSED_TRUNCATION
        if self.landlock < 6:
            refused |= REFUSED_SIGNALS
            for number in (_KILL, _TGKILL):
                code.require(number[column], 0, (self.process,))
            # Signals that the kernel sends in our name, which a filter of kill() does not see.
            code.refuse_values(_FCNTL[column], 1, (_F_SETOWN, _F_SETSIG, _F_SETOWN_EX))
            code.refuse_values(_IOCTL[column], 1, (_FIOSETOWN, _SIOCSPGRP, _FIOASYNC))
        code.refuse(row[column] for row in refused.values())
        for number in _OF_CALLER_ONLY.values():
            code.require(number[column], 0, (0,))
        code.require(_OF_CALLER_ONLY["setpriority"][column], 1, (0,))
        code.refuse_values(_FCNTL[column], 1, (_F_SETLEASE, _F_NOTIFY))
        # Who hides its descriptors hides files that count as disk.
        code.refuse_values(_PRCTL[column], 0, (_PR_SET_DUMPABLE,))
        # A pair of datagram sockets can send to any address.
        code.require(_SOCKETPAIR[column], 0, (socket.AF_UNIX,))
        code.require(_SOCKETPAIR[column], 1, (socket.SOCK_STREAM, socket.SOCK_SEQPACKET), _SOCKET_TYPE)


def of_this_process(*, own_user: bool, landlock: int) -> Bare:
    """Return the rules for the calling process and its children."""
    return Bare(process=os.getpid(), own_user=own_user, landlock=landlock)
