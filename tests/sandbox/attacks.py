"""Attempts to get out. Each is the body of a function: it returns something if it got through, and raises
OSError if it was stopped. Any other exception is a mistake in the attempt, and fails the test.
"""

from __future__ import annotations

PREAMBLE = """
import array, ctypes, fcntl, glob, json, mmap, os, pathlib, resource, signal, socket, struct, subprocess
import sys, time
libc = ctypes.CDLL(None, use_errno=True)
def syscall(number, *arguments):
    passed = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    result = libc.syscall(ctypes.c_long(number), *passed)
    if result == -1:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result
"""

# Numbers of x86_64; attempts that name one are tried there only. Others are shared by all machines.
FILES = {
    "host file": "return open({secret!r}).read()",
    "password hashes": "return open('/etc/shadow').read()",
    "real password file": (
        "t = open('/etc/passwd').read()\nif 'root:' in t: return t\nraise OSError('synthetic')"
    ),
    "home of root": "return os.listdir('/root/.ssh')",
    "project checkout": "return open({checkout!r} + '/pyproject.toml').read()",
    "other sessions' sockets": "return os.listdir({socket_folder!r})",
    "host root through init": "return os.listdir('/proc/1/root/etc')",
    "host cwd through init": "return os.listdir('/proc/1/cwd/..')",
    "descriptors of init": "return os.listdir('/proc/1/fd')",
    "memory of init": "return open('/proc/1/mem', 'r+b')",
    "environment of init": "return open('/proc/1/environ').read() or 'readable'",
    "core pattern": "return open('/proc/sys/kernel/core_pattern', 'w')",
    "sysrq": "return open('/proc/sysrq-trigger', 'w')",
    "kernel memory": "return open('/proc/kcore', 'rb')",
    "block device": (
        "os.mknod('/scratch/disk', 0o600 | 0o060000, os.makedev(254, 0))\nreturn open('/scratch/disk', 'rb')"
    ),
    "write to /usr": "return open('/usr/lib/owned', 'w')",
    "write to the interpreter": "return open(sys.executable, 'r+b')",
    "write to site-packages": "import numpy\nreturn open(numpy.__file__, 'a')",
    "write to the root": "return open('/owned', 'w')",
    "write to a device folder": "return open('/dev/owned', 'w')",
    "setuid programme": (
        "found = [p for p in ('/usr/bin/su', '/bin/su', '/usr/bin/passwd') if os.path.exists(p)]\n"
        "r = subprocess.run(['/usr/bin/env', 'python3', '-c', 'import os; os.setuid(0); print(os.getuid())'],"
        " capture_output=True, text=True)\n"
        "if r.stdout.strip() == '0': return 'root'\nraise OSError('not root')"
    ),
}
PROCESSES = {
    "signal to a process of the host": (
        "os.kill({pid}, 0)\n"
        "if os.path.exists('/proc/{pid}'): raise OSError('one of our own')\nreturn 'signalled'"
    ),
    "foreign processes": (
        "names = [p.read_text() for p in pathlib.Path('/proc').glob('[0-9]*/comm')]\n"
        "if len(names) > 4: return names\nraise OSError('only ours')"
    ),
    "kill init": (
        "os.kill(1, signal.SIGKILL)\ntime.sleep(0.05)\nos.kill(1, 0)\nraise OSError('it ignores us')"
    ),
    "stop init": (
        "os.kill(1, signal.SIGSTOP)\ntime.sleep(0.05)\n"
        "state = open('/proc/1/stat').read().split(')')[1].split()[0]\n"
        "if state == 'T': return state\nraise OSError('it goes on')"
    ),
    "ptrace init": "return libc.ptrace(16, 1, 0, 0) == 0 or syscall({ptrace}, 16, 1, 0, 0)",
    "read init's memory": (
        "b = ctypes.create_string_buffer(8)\nv = struct.pack('PN', ctypes.addressof(b), 8)\n"
        "return syscall({process_vm_readv}, 1, v, 1, v, 1, 0)"
    ),
    "steal a descriptor of init": "return syscall(438, os.pidfd_open(1), 4, 0)",
    "become root": "os.setuid(0)\nreturn 'root'",
    "raise a limit": (
        "s, h = resource.getrlimit(resource.RLIMIT_NOFILE)\n"
        "try: resource.setrlimit(resource.RLIMIT_NOFILE, (h + 1, h + 1))\n"
        "except ValueError as e: raise OSError(str(e))\nreturn 'raised'"
    ),
}
KERNEL = {
    "user namespace": "return syscall({unshare}, 0x10000000)",
    "mount namespace": "return syscall({unshare}, 0x20000)",
    "clone into namespaces": "return syscall({clone}, 0x10000000 | 17, 0, 0, 0, 0)",
    "clone3": "return syscall(435, struct.pack('8Q', 0x10000000, 0, 0, 0, 17, 0, 0, 0), 64)",
    "enter the host's namespace": "return syscall({setns}, os.open('/proc/self/ns/user', 0), 0)",
    "mount": "return syscall({mount}, b'none', b'/tmp', b'tmpfs', 0, 0)",
    "unmount the cover": "return syscall({umount2}, b'/scratch', 2)",
    "chroot": "os.chroot('/tmp')\nreturn 'chroot'",
    "open_tree": "return syscall(428, -100, b'/', 1)",
    "new mount api": "return syscall(430, b'tmpfs', 0)",
    "io_uring": "return syscall(425, 8, ctypes.create_string_buffer(120))",
    "userfaultfd": "return syscall({userfaultfd}, 1)",
    "bpf": "return syscall({bpf}, 0, ctypes.create_string_buffer(128), 128)",
    "perf": "return syscall({perf_event_open}, ctypes.create_string_buffer(128), 0, -1, -1, 0)",
    "keyring": "return syscall({keyctl}, 0, -3, 1)",
    "open by handle": "return syscall({open_by_handle_at}, -100, ctypes.create_string_buffer(64), 0)",
    "memory file": "return os.memfd_create('hidden')",
    "shared memory segment": "return syscall({shmget}, 0, 4096, 0o1600)",
    "unknown system call": "return syscall(999, 0)",
    "typing into a terminal": "return fcntl.ioctl(0, 0x5412, b'x')",
}
NETWORK = {
    "loopback of the host": "return socket.create_connection(('127.0.0.1', {port}), 1)",
    "the internet": "return socket.create_connection(('192.0.2.1', 80), 1)",
    "the metadata service": "return socket.create_connection(('169.254.169.254', 80), 1)",
    "name lookup": "return socket.getaddrinfo('example.com', 80)",
    "vsock": "return socket.socket(40, socket.SOCK_STREAM)",
    "netlink": "return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)",
    "raw packets": "return socket.socket(socket.AF_PACKET, socket.SOCK_RAW)",
    "raw ip": "return socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)",
    "the zygote's socket": (
        "s = socket.socket(socket.AF_UNIX)\ns.connect({socket_path!r})\nreturn 'connected'"
    ),
    "abstract socket of the host": (
        "s = socket.socket(socket.AF_UNIX)\ns.connect('\\0' + {abstract!r})\nreturn 'connected'"
    ),
}
ALL = {**FILES, **PROCESSES, **KERNEL, **NETWORK}


def programme(body: str) -> str:
    """Return code that prints HELD or ESCAPED."""
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    return (
        f"{PREAMBLE}\ndef attempt():\n{lines}\n"
        "try:\n    got = attempt()\nexcept OSError as error:\n    print('HELD', error)\n"
        "else:\n    print('ESCAPED', repr(got)[:300])\n"
    )
