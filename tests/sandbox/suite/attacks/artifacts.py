"""Files that a session leaves for the host to collect."""

from __future__ import annotations

from typing import Any

from tests.sandbox.suite.attack import BOXED, Attack, Layer


def _attack(name: str, code: str, *stopped_by: Layer, meaning: str = "", **more: Any) -> Attack:
    return Attack(
        name=name,
        group="artifacts",
        code=code,
        meaning=meaning or "the host reads its own files and gives them out as results",
        stopped_by=stopped_by or ("host",),
        collects=True,
        **more,
    )


_DONE = "\nraise OSError('the host looks at what it collects')"
_NAME = "a name that misleads or breaks what shows it gets out"
_HANG = "the worker waits for ever"

ATTACKS = (
    _attack("symlink to a secret", "os.symlink(GIVEN['secret'], 'result.txt')" + _DONE),
    _attack("symlink to the collector", "os.symlink('/proc/self/environ', 'result.txt')" + _DONE),
    _attack("symlink to a folder", "os.symlink(os.path.dirname(GIVEN['secret']), 'results')" + _DONE),
    _attack("symlink out by dots", "os.symlink('../' * 20 + GIVEN['secret'], 'result.txt')" + _DONE),
    _attack(
        "file that becomes a symlink",
        "if os.fork() == 0:\n"
        "    os.close(3)\n"
        "    open('result.txt', 'w').write('x'); os.symlink(GIVEN['secret'], 'other.txt')\n"
        "    until = time.monotonic() + 1.5\n"
        "    while time.monotonic() < until:\n"
        "        # RENAME_EXCHANGE: under each name there is always one of both\n"
        "        libc.renameat2(-100, b'result.txt', -100, b'other.txt', 2)\n"
        "    os._exit(0)\n"
        "time.sleep(0.1)" + _DONE,
    ),
    _attack(
        "folder that becomes a symlink",
        "if os.fork() == 0:\n"
        "    os.close(3)\n"
        "    os.mkdir('real'); open('real/secret.txt', 'w').write('x')\n"
        "    os.symlink(os.path.dirname(GIVEN['secret']), 'false'); os.mkdir('results')\n"
        "    until = time.monotonic() + 1.5\n"
        "    while time.monotonic() < until:\n"
        "        # RENAME_EXCHANGE: there is always one of both\n"
        "        libc.renameat2(-100, b'real', -100, b'false', 2)\n"
        "    os._exit(0)\n"
        "time.sleep(0.1)" + _DONE,
    ),
    _attack("pipe", "os.mkfifo('result.csv')\nreturn 'made'", "seccomp", "host", meaning=_HANG),
    _attack("device", "os.mknod('result', 0o666 | stat.S_IFCHR, os.makedev(1, 5))\nreturn 'made'", "seccomp"),
    _attack(
        "socket",
        "s = socket.socket(socket.AF_UNIX)\ns.bind('result.sock')" + _DONE,
        "host",
        meaning=_HANG,
    ),
    _attack(
        "hard link to a file of the host",
        "os.link('/etc/hosts', 'result.txt')\nreturn 'linked'",
        "root",
        "landlock",
    ),
    _attack(
        "hard link to the input",
        "os.link('inputs/given.csv', 'r.csv')\nreturn 'linked'",
        "root",
        "landlock",
        tiers=BOXED,
    ),
    _attack(
        "one file under many names",
        "open('a', 'w').write('x')\nfor n in range(50): os.link('a', f'b{n}')" + _DONE,
        "host",
        meaning="a small file fills the storage",
    ),
    _attack(
        "sparse file of the full quota",
        "with open('big.bin', 'wb') as f: f.truncate(400 << 20)" + _DONE,
        "host",
        meaning="nothing on the disk becomes gigabytes in the storage",
    ),
    _attack(
        "a file that grows while it is read",
        "if os.fork() == 0:\n"
        "    os.close(3)\n"
        "    with open('growing.log', 'wb') as f:\n"
        "        until = time.monotonic() + 1.5\n"
        "        while time.monotonic() < until:\n"
        "            try: f.write(b'x' * (1 << 16))\n"
        "            except OSError: break\n"
        "    os._exit(0)\n"
        "time.sleep(0.1)" + _DONE,
        "host",
        meaning=_HANG,
    ),
    _attack(
        "thousands of files",
        "for n in range(3000): open(f'f{n}', 'w').write('x')" + _DONE,
        "host",
        meaning="a run's results flood the storage",
    ),
    _attack(
        "deep folders",
        "for _ in range(1500):\n    os.mkdir('d' * 50); os.chdir('d' * 50)\nopen('x', 'w').write('x')"
        + _DONE,
        "host",
        meaning="the collector's stack or paths overflow",
    ),
    _attack(
        "names with control characters",
        "for name in ('a\\nb.txt', 'a\\x1b[2Jb', '\\x7f', 'a\\rb'):\n    open(name, 'w').write('x')" + _DONE,
        meaning=_NAME,
    ),
    _attack(
        "names that read backwards",
        "open('invoice\\u202efdp.exe', 'w').write('x')\nopen('a\\u200bb', 'w').write('x')" + _DONE,
        meaning=_NAME,
    ),
    _attack(
        "names that are no text",
        "open(b'\\xff\\xfe.txt', 'w').write('x')\nopen('\\udc80.csv', 'w').write('x')" + _DONE,
        meaning=_NAME,
    ),
    _attack(
        "names like paths of others",
        "for name in ('..\\\\..\\\\etc', 'C:\\\\x', '-rf', '~', '...', '\\u2215etc\\u2215passwd'):\n"
        "    open('./' + name, 'w').write('x')" + _DONE,
        meaning="a file lands beside the folder for results",
    ),
    _attack(
        "unreadable folder", "os.mkdir('shut'); open('shut/x', 'w').write('x'); os.chmod('shut', 0)" + _DONE
    ),
    _attack(
        "scratch folder replaced",
        "here = os.getcwd()\nos.rename(here, here + '-old')\nos.symlink('/', here)\nreturn 'replaced'",
        "root",
        "landlock",
    ),
)
