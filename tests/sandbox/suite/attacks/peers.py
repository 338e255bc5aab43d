"""Reaching another session that is alive at the same time.

`GIVEN['peer']` tells all that the host knows of it.
"""

from __future__ import annotations

from typing import Any

from tests.sandbox.suite.attack import BOXED, Attack, Layer


def _attack(name: str, code: str, *stopped_by: Layer, **more: Any) -> Attack:
    return Attack(
        name=name,
        group="peers",
        code=code,
        meaning="one task can read or harm another one",
        stopped_by=stopped_by,
        **more,
    )


ATTACKS = (
    _attack(
        "file of a peer by its path",
        "return open(GIVEN['peer']['folder'] + '/peer.txt').read()",
        "root",
        "landlock",
        "user",
    ),
    _attack(
        "file of a peer through /proc",
        "for pid in (GIVEN['peer']['code'], GIVEN['peer']['init']):\n"
        "    for way in ('cwd', 'root/scratch', 'root' + GIVEN['peer']['folder']):\n"
        "        try: text = open(f'/proc/{pid}/{way}/peer.txt').read()\n"
        "        except OSError: continue\n"
        "        return text\n"
        "raise OSError('no way')",
        "processes",
        "landlock",
        "user",
    ),
    _attack(
        "any file named so",
        "found = glob.glob('/**/peer.txt', recursive=False) + glob.glob('/*/peer.txt') + "
        "glob.glob('/tmp/**/peer.txt', recursive=True) + glob.glob('/dev/shm/peer*')\n"
        "if found: return found\nraise OSError('none')",
        "root",
        "landlock",
        "user",
    ),
    _attack(
        "memory of a peer",
        "pid = GIVEN['peer']['code']\nif pid == os.getpid(): raise OSError('our own number')\n"
        "b = room(8)\nv = struct.pack('PN', ctypes.addressof(b), 8)\n"
        "return syscall('process_vm_readv', pid, v, 1, v, 1, 0)",
        "seccomp",
        "processes",
    ),
    _attack(
        "environment of a peer",
        "for p in glob.glob('/proc/[0-9]*/environ'):\n"
        "    try: text = open(p).read()\n"
        "    except OSError: continue\n"
        "    if GIVEN['peer']['mark'] in text: return p\n"
        "raise OSError('not found')",
        "processes",
        "landlock",
    ),
    _attack(
        "processes of a peer",
        "for p in glob.glob('/proc/[0-9]*/cmdline'):\n"
        "    try: text = open(p).read()\n"
        "    except OSError: continue\n"
        "    if GIVEN['peer']['mark'] in text: return p\n"
        "raise OSError('not found')",
        "processes",
        "landlock",
    ),
    _attack(
        "signal to a peer",
        "for pid in (GIVEN['peer']['code'], GIVEN['peer']['init'], GIVEN['peer']['child']):\n"
        "    if os.path.exists(f'/proc/{pid}'): continue\n"
        "    try: os.kill(pid, signal.SIGKILL)\n"
        "    except OSError: continue\n"
        "    return pid\n"
        "raise OSError('none was reached')",
        "processes",
        "landlock",
        "user",
    ),
    _attack(
        "abstract socket of a peer",
        "s = socket.socket(socket.AF_UNIX)\ns.connect('\\0' + GIVEN['peer']['mark'])\nreturn 'connected'",
        "network",
        "landlock",
        "seccomp",
    ),
    _attack(
        "socket file of a peer",
        "s = socket.socket(socket.AF_UNIX)\n"
        "s.connect(GIVEN['peer']['folder'] + '/../' + GIVEN['peer']['mark'] + '.sock')\nreturn 'connected'",
        "root",
        "landlock",
        "seccomp",
    ),
    _attack(
        "shared memory of a peer",
        "return open('/dev/shm/' + GIVEN['peer']['mark']).read()",
        "root",
        "landlock",
        "user",
    ),
    _attack(
        "way out of a peer",
        "return socket.create_connection(('127.0.0.1', 3128), 1)",
        "network",
        "seccomp",
        tiers=BOXED,
    ),
    _attack(
        "processes used up for others",
        "made = 0\n"
        "try:\n"
        "    while made < 200:\n"
        "        if os.fork() == 0: time.sleep(20); os._exit(0)\n"
        "        made += 1\n"
        "except OSError: pass\n"
        "raise OSError('the host asks the peer')",
        "user",
        "limits",
        limits={"processes": 64},
        death=("processes",),
    ),
)
