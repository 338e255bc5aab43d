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

# For tiers without namespaces, where the host's processes and files are in sight: `{victim}` is a process
# and `{own_file}` a file of the user who runs the worker.
BARE_PROCESSES = {
    "environment of a process": "return open('/proc/{victim}/environ').read() or 'readable'",
    "memory of a process": "return open('/proc/{victim}/mem', 'rb')",
    "memory map of a process": "return open('/proc/{victim}/maps').read()",
    "descriptors of a process": "return os.listdir('/proc/{victim}/fd')",
    "a descriptor of a process": "return open('/proc/{victim}/fd/0')",
    "current folder of a process": "return os.listdir('/proc/{victim}/cwd')",
    "root of a process": "return os.listdir('/proc/{victim}/root')",
    "where a process is": "return os.readlink('/proc/{victim}/cwd')",
    "programme of a process": "return open('/proc/{victim}/exe', 'rb')",
    "arguments of a process": "return open('/proc/{victim}/cmdline').read()",
    "thread of a process": "return open('/proc/{victim}/task/{victim}/environ').read()",
    "process by the root of its own": "return open('/proc/self/root/proc/{victim}/environ').read()",
    "list of processes": "return os.listdir('/proc')",
    "sockets of the host": "return open('/proc/self/net/unix').read()",
    "mounts of the host": "return open('/proc/self/mountinfo').read()",
    "order in which memory runs out": "return open('/proc/{victim}/oom_score_adj', 'w')",
    "signal": "os.kill({victim}, 0)\nreturn 'signalled'",
    "signal to a thread": "return syscall({tgkill}, {victim}, {victim}, 0)",
    "signal to any thread": "return syscall({tkill}, {victim}, 0)",
    "queued signal": (
        "i = struct.pack('iii', 10, 0, -1).ljust(128)\nreturn syscall({rt_sigqueueinfo}, {victim}, 10, i)"
    ),
    "signal by descriptor": "return signal.pidfd_send_signal(os.pidfd_open({victim}), 0)",
    "signal to a group": "os.killpg({victim_group}, 0)\nreturn 'signalled'",
    "signal to init": "os.kill(os.getppid(), 0)\nreturn 'signalled'",
    "limits of a process": "return resource.prlimit({victim}, resource.RLIMIT_NOFILE, (4, 4))",
    "priority of a process": "os.setpriority(os.PRIO_PROCESS, {victim}, 19)\nreturn 'slower'",
    "priority of a user": "os.setpriority(os.PRIO_USER, 0, 19)\nreturn 'slower'",
    "processors of a process": "os.sched_setaffinity({victim}, {{0}})\nreturn 'moved'",
    "scheduling of a process": (
        "os.sched_setscheduler({victim}, os.SCHED_IDLE, os.sched_param(0))\nreturn 'idle'"
    ),
    "disk priority of a process": "return syscall({ioprio_set}, 1, {victim}, 3 << 13)",
    "a session of its own": "return os.setsid()",
    "a group of its own": "return os.setpgid(0, 0)",
    "hiding from init": "return syscall({prctl}, 4, 0, 0, 0, 0)",
}
BARE_FILES = {
    "file of the user": "return open({own_file!r}).read()",
    "write to a file of the user": "return open({own_file!r}, 'a')",
    "cut a file of the user": "return os.truncate({own_file!r}, 0)",
    "remove a file of the user": "return os.unlink({own_file!r})",
    "rename a file of the user": "return os.rename({own_file!r}, 'taken')",
    "another name for a file of the user": "return os.link({own_file!r}, 'taken')",
    "replace a file of the user": "open('new', 'w').close()\nreturn os.replace('new', {own_file!r})",
    "attributes of a file of the user": "return os.setxattr({own_file!r}, 'user.mark', b'1')",
    "watch a file of the user": (
        "return syscall({inotify_add_watch}, libc.inotify_init1(0), {own_file!r}.encode(), 0xfff)"
    ),
    "read through a link": "os.symlink({own_file!r}, 'link')\nreturn open('link').read()",
    "new file in the user's folder": "return open({own_file!r} + '.new', 'w')",
    "new folder in the user's folder": "return os.mkdir({own_file!r} + '.folder')",
    "link in the user's folder": "return os.symlink('/', {own_file!r} + '.link')",
    "the host's temporary folder": "return open('/tmp/owned', 'w')",
    "the host's shared memory": "return open('/dev/shm/owned', 'w')",
    "above the session's folder": "return os.listdir('../..')",
    "beside the session's folders": "return open('../owned', 'w')",
    "another session's file": "return open({neighbour!r}).read()",
    "write to another session's file": "return open({neighbour!r}, 'a')",
}
BARE_KERNEL = {
    "unix socket": "return socket.socket(socket.AF_UNIX)",
    "internet socket": "return socket.socket()",
    "datagrams of a pair": "return socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)",
    "datagrams of a pair, closed on exec": (
        "return socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)"
    ),
    "files in flight": ("a, b = socket.socketpair()\nreturn socket.send_fds(a, [b'x'], [0])"),
    "semaphores": "return syscall({semget}, 0, 1, 0o1600)",
    "attach a shared segment": "return syscall({shmat}, 0, 0, 0)",
    "remove a message queue": "return syscall({mq_unlink}, b'queue')",
}
BARE = {**BARE_PROCESSES, **BARE_FILES, **BARE_KERNEL}


def programme(body: str) -> str:
    """Return code that prints HELD or ESCAPED."""
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    return (
        f"{PREAMBLE}\ndef attempt():\n{lines}\n"
        "try:\n    got = attempt()\nexcept OSError as error:\n    print('HELD', error)\n"
        "else:\n    print('ESCAPED', repr(got)[:300])\n"
    )
