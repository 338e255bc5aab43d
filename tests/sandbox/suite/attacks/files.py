"""Reading and changing files of the host."""

from __future__ import annotations

from typing import Any

from tests.sandbox.suite.attack import BOXED, Attack, Layer


def _attack(name: str, code: str, meaning: str, *stopped_by: Layer, **more: Any) -> Attack:
    return Attack(name=name, group="files", code=code, meaning=meaning, stopped_by=stopped_by, **more)


_READ = "it can read files of the host"
_WRITE = "it can change what the host or other sessions run"

ATTACKS = (
    _attack("host file", "return open(GIVEN['secret']).read()", _READ, "root", "landlock"),
    _attack("password hashes", "return open('/etc/shadow').read()", _READ, "root", "landlock", "user"),
    _attack(
        "real password file",
        "t = open('/etc/passwd').read()\nif 'root:' in t: return t\nraise OSError('synthetic')",
        "it learns the accounts of the host",
        "root",
        tiers=BOXED,
    ),
    _attack("home of root", "return os.listdir('/root/.ssh')", _READ, "root", "landlock", "user"),
    _attack(
        "project checkout",
        "return open(GIVEN['checkout'] + '/pyproject.toml').read()",
        "it can read the settings of the assistant, keys included",
        "root",
        "landlock",
    ),
    _attack(
        "folder of the zygote's socket",
        "return os.listdir(GIVEN['socket_folder'])",
        "it can ask for sessions of its own making",
        "root",
        "landlock",
        "user",
    ),
    _attack(
        "out by dots",
        "os.chdir('../' * 50)\nreturn open('.' + GIVEN['secret']).read()",
        _READ,
        "root",
        "landlock",
    ),
    _attack(
        "out through its own root link",
        "return open('/proc/self/root' + GIVEN['secret']).read()",
        _READ,
        "root",
        "landlock",
    ),
    _attack(
        "out by a symlink",
        "os.symlink(GIVEN['secret'], 'way')\nreturn open('way').read()",
        _READ,
        "root",
        "landlock",
    ),
    _attack(
        "out by a descriptor of a folder",
        "d = os.open('/', os.O_PATH | os.O_DIRECTORY)\n"
        "return os.read(os.open(GIVEN['secret'][1:], os.O_RDONLY, dir_fd=d), 10)",
        _READ,
        "root",
        "landlock",
    ),
    _attack(
        "reopening what it holds",
        "for n in os.listdir('/proc/self/fd'):\n"
        "    try: kind = os.stat('/proc/self/fd/' + n)\n"
        "    except FileNotFoundError: continue\n"
        "    if stat.S_ISDIR(kind.st_mode): return os.listdir('/proc/self/fd/' + n)\n"
        "    if stat.S_ISREG(kind.st_mode): return open('/proc/self/fd/' + n, 'rb').read()\n"
        "raise OSError('pipes, sockets and the null device')",
        "a descriptor of the host came along",
        "host",
        alone=True,
    ),
    _attack(
        "writing the input",
        "return open('inputs/given.csv', 'w')",
        "it can change the person's own file",
        "root",
        "landlock",
    ),
    _attack(
        "making the input writable",
        "os.chmod('inputs/given.csv', 0o666)\nreturn open('inputs/given.csv', 'r+')",
        "it can change the person's own file",
        "root",
        "landlock",
    ),
    _attack(
        "removing the input",
        "os.remove('inputs/given.csv')\nos.stat('inputs/given.csv')\nreturn 'still there, but removable'",
        "it can delete the person's own file",
        "root",
        tiers=BOXED,
    ),
    _attack(
        "touching the input",
        "os.utime('inputs/given.csv', (0, 0))\n"
        "if os.stat('inputs/given.csv').st_mtime == 0: return 'changed'\nraise OSError('no effect')",
        "it can change attributes of the person's own file",
        "root",
        "seccomp",
    ),
    _attack("block device of the host", "return open('/dev/vda', 'rb')", _READ, "root", "landlock", "user"),
    _attack("memory device", "return open('/dev/mem', 'rb')", _READ, "root", "landlock", "user"),
    _attack(
        "making a block device",
        "os.mknod('disk', 0o600 | stat.S_IFBLK, os.makedev(254, 0))\nreturn open('disk', 'rb')",
        _READ,
        "seccomp",
        "capabilities",
    ),
    _attack("write to /usr", "return open('/usr/lib/owned', 'w')", _WRITE, "root", "landlock", "user"),
    _attack("write to the interpreter", "return open(sys.executable, 'r+b')", _WRITE, "root", "landlock"),
    _attack(
        "write to site-packages",
        "import numpy\nreturn open(numpy.__file__, 'a')",
        _WRITE,
        "root",
        "landlock",
        "user",
    ),
    _attack("write to the root", "return open('/owned', 'w')", _WRITE, "root", "landlock", "user"),
    _attack("write to /dev", "return open('/dev/owned', 'w')", _WRITE, "root", "landlock", "user"),
    _attack(
        "write to the host's /tmp",
        "open(GIVEN['drop'] + '/left', 'w').write('x')\nreturn os.listdir(GIVEN['drop'])",
        "it can leave files on the host",
        "root",
        "landlock",
    ),
    _attack(
        "container socket",
        "s = socket.socket(socket.AF_UNIX)\ns.connect('/var/run/docker.sock')\nreturn 'connected'",
        "it can start containers, which is root on the host",
        "root",
        "seccomp",
        "user",
    ),
    _attack(
        "open by handle",
        "return syscall('open_by_handle_at', -100, room(64), 0)",
        "it can open any file of a disk by its number",
        "seccomp",
        "capabilities",
    ),
    _attack(
        "setuid programme",
        "r = subprocess.run([sys.executable, '-c', 'import os; os.setuid(0); print(os.getuid())'],"
        " capture_output=True, text=True)\n"
        "if r.stdout.strip() == '0': return 'root'\nraise OSError('not root')",
        "it can become another user",
        "user",
        "capabilities",
    ),
)
