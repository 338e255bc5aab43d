"""The one way out of a session's empty network: a listener on its loopback, which the host answers."""

from __future__ import annotations

import fcntl
import socket
import struct

ADDRESS = ("127.0.0.1", 3128)
_BACKLOG = 128
# include/uapi/linux/sockios.h, include/uapi/linux/if.h; struct ifreq is 40 bytes, the flags stand at 16
_SIOCGIFFLAGS, _SIOCSIFFLAGS = 0x8913, 0x8914
_IFF_UP = 1
_REQUEST = struct.Struct("16sH22x")


def listen() -> socket.socket:
    """Raise the loopback of the network namespace, if nobody has, and listen there.

    Raising takes CAP_NET_ADMIN in this namespace (netdevice(7)).
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        answer = fcntl.ioctl(any_socket, _SIOCGIFFLAGS, _REQUEST.pack(b"lo", 0))
        name, flags = _REQUEST.unpack(answer)
        if not flags & _IFF_UP:
            fcntl.ioctl(any_socket, _SIOCSIFFLAGS, _REQUEST.pack(name, flags | _IFF_UP))
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listening.bind(ADDRESS)
        listening.listen(_BACKLOG)
    except BaseException:
        listening.close()
        raise
    return listening
