"""What only matters where there are no namespaces: the host's processes and files are in sight."""

from __future__ import annotations

from tests.sandbox.suite.attack import Attack, Layer

GROUP = "no namespaces"
_PROCESS = "it can watch or harm processes of the user who runs the worker"
_FILE = "it can read or change files of the user who runs the worker"
_KERNEL = "it can talk to other processes by means that file rules do not see"


def _attack(name: str, code: str, meaning: str, *stopped_by: Layer) -> Attack:
    return Attack(
        name=f"without namespaces: {name}",
        group=GROUP,
        code=f"V = GIVEN['victim']\n{code}",
        meaning=meaning,
        stopped_by=stopped_by,
        tiers=frozenset({"landlock"}),
    )


def _process(name: str, code: str) -> Attack:
    return _attack(name, code, _PROCESS, "landlock", "seccomp", "user")


def _file(name: str, code: str) -> Attack:
    return _attack(name, code, _FILE, "landlock", "user")


def _kernel(name: str, code: str) -> Attack:
    return _attack(name, code, _KERNEL, "seccomp")


ATTACKS = (
    _process("environment of a process", "return open(f'/proc/{V}/environ').read() or 'readable'"),
    _process("memory of a process", "return open(f'/proc/{V}/mem', 'rb')"),
    _process("memory map of a process", "return open(f'/proc/{V}/maps').read()"),
    _process("descriptors of a process", "return os.listdir(f'/proc/{V}/fd')"),
    _process("a descriptor of a process", "return open(f'/proc/{V}/fd/0')"),
    _process("current folder of a process", "return os.listdir(f'/proc/{V}/cwd')"),
    _process("root of a process", "return os.listdir(f'/proc/{V}/root')"),
    _process("where a process is", "return os.readlink(f'/proc/{V}/cwd')"),
    _process("programme of a process", "return open(f'/proc/{V}/exe', 'rb')"),
    _process("arguments of a process", "return open(f'/proc/{V}/cmdline').read()"),
    _process("thread of a process", "return open(f'/proc/{V}/task/{V}/environ').read()"),
    _process("process by the root of its own", "return open(f'/proc/self/root/proc/{V}/environ').read()"),
    _process("list of processes", "return os.listdir('/proc')"),
    _process("sockets of the host", "return open('/proc/self/net/unix').read()"),
    _process("mounts of the host", "return open('/proc/self/mountinfo').read()"),
    _process("order in which memory runs out", "return open(f'/proc/{V}/oom_score_adj', 'w')"),
    _process("signal", "os.kill(V, 0)\nreturn 'signalled'"),
    _process("signal to a thread", "return syscall('tgkill', V, V, 0)"),
    _process("signal to any thread", "return syscall('tkill', V, 0)"),
    _process(
        "queued signal",
        "i = struct.pack('iii', 10, 0, -1).ljust(128)\nreturn syscall('rt_sigqueueinfo', V, 10, i)",
    ),
    _process("signal by descriptor", "return signal.pidfd_send_signal(os.pidfd_open(V), 0)"),
    _process("signal to a group", "os.killpg(os.getpgid(V), 0)\nreturn 'signalled'"),
    _process("signal to init", "os.kill(os.getppid(), 0)\nreturn 'signalled'"),
    _process("limits of a process", "return resource.prlimit(V, resource.RLIMIT_NOFILE, (4, 4))"),
    _process("priority of a process", "os.setpriority(os.PRIO_PROCESS, V, 19)\nreturn 'slower'"),
    _process("priority of a user", "os.setpriority(os.PRIO_USER, 0, 19)\nreturn 'slower'"),
    _process("processors of a process", "os.sched_setaffinity(V, {0})\nreturn 'moved'"),
    _process(
        "scheduling of a process", "os.sched_setscheduler(V, os.SCHED_IDLE, os.sched_param(0))\nreturn 'idle'"
    ),
    _process("disk priority of a process", "return syscall('ioprio_set', 1, V, 3 << 13)"),
    _process("a session of its own", "return os.setsid()"),
    _process("a group of its own", "return os.setpgid(0, 0)"),
    _process("hiding from init", "return syscall('prctl', 4, 0, 0, 0, 0)"),
    _file("file of the user", "return open(GIVEN['secret']).read()"),
    _file("write to a file of the user", "return open(GIVEN['secret'], 'a')"),
    _file("cut a file of the user", "return os.truncate(GIVEN['secret'], 0)"),
    _file("remove a file of the user", "return os.unlink(GIVEN['secret'])"),
    _file("rename a file of the user", "return os.rename(GIVEN['secret'], 'taken')"),
    _file("another name for a file of the user", "return os.link(GIVEN['secret'], 'taken')"),
    _file(
        "replace a file of the user", "open('new', 'w').close()\nreturn os.replace('new', GIVEN['secret'])"
    ),
    _file("attributes of a file of the user", "return os.setxattr(GIVEN['secret'], 'user.mark', b'1')"),
    _file(
        "watch a file of the user",
        "return syscall('inotify_add_watch', libc.inotify_init1(0), GIVEN['secret'].encode(), 0xfff)",
    ),
    _file("read through a link", "os.symlink(GIVEN['secret'], 'link')\nreturn open('link').read()"),
    _file("new file in the user's folder", "return open(GIVEN['secret'] + '.new', 'w')"),
    _file("new folder in the user's folder", "return os.mkdir(GIVEN['secret'] + '.folder')"),
    _file("link in the user's folder", "return os.symlink('/', GIVEN['secret'] + '.link')"),
    _file("the host's temporary folder", "return open('/tmp/owned', 'w')"),
    _file("the host's shared memory", "return open('/dev/shm/owned', 'w')"),
    _file("above the session's folder", "return os.listdir('../..')"),
    _file("beside the session's folders", "return open('../owned', 'w')"),
    _file("another session's file", "return open(GIVEN['peer']['folder'] + '/peer.txt').read()"),
    _file("write to another session's file", "return open(GIVEN['peer']['folder'] + '/peer.txt', 'a')"),
    _kernel("unix socket", "return socket.socket(socket.AF_UNIX)"),
    _kernel("internet socket", "return socket.socket()"),
    _kernel("datagrams of a pair", "return socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)"),
    _kernel(
        "datagrams of a pair, closed on exec",
        "return socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)",
    ),
    _kernel("files in flight", "a, b = socket.socketpair()\nreturn socket.send_fds(a, [b'x'], [0])"),
    _kernel("semaphores", "return syscall('semget', 0, 1, 0o1600)"),
    _kernel("attach a shared segment", "return syscall('shmat', 0, 0, 0)"),
    _kernel("remove a message queue", "return syscall('mq_unlink', b'queue')"),
)
