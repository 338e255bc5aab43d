"""What a session is like: a fresh one for the next task, and one in which attacks were tried."""

from __future__ import annotations

import json

from pythonic_assistant.ports import SandboxSession

_SECONDS = 10.0
# What the next session finds: anything that differs from the first session was left by somebody.
_PORTRAIT = """
import builtins, json, os, pathlib, sys
def look(path):
    try: return sorted(os.listdir(path))
    except OSError as error: return type(error).__name__
here = os.getcwd()
text = json.dumps({
    'files': look('.'), 'tmp': look('/tmp'), 'shm': look('/dev/shm'),
    'home': look(os.path.expanduser('~')), 'hooks': [type(h).__name__ for h in sys.meta_path],
    'path': sys.path, 'environment': sorted(os.environ.items()),
    'builtins': [n for n, v in vars(builtins).items()
        if getattr(v, '__module__', '') not in ('builtins', None)],
    'processes': len([p for p in look('/proc') if p.isdigit()]),
    'descriptors': sorted(os.readlink(f'/proc/self/fd/{n}').split(':')[0]
        for n in look('/proc/self/fd') if os.path.lexists(f'/proc/self/fd/{n}')),
    'groups': os.getgroups(), 'nice': os.nice(0), 'names': sorted(os.uname()[1:2]),
})
# Where folders and users are the session's own, their names differ.
print(text.replace(here, '(here)').replace(os.environ['TMPDIR'], '(temporary)'))
"""
# What later attacks could meet that earlier ones left: all that a process has, and its files.
_STATE = """
import builtins, ctypes, gc, json, os, resource, signal, sys, threading
def state_of_session():
    gc.collect()
    def told(call, *arguments):
        try: return call(*arguments)
        except OSError as error: return type(error).__name__
    def file(path):
        s = os.lstat(path)
        return path, s.st_ino, s.st_mode, s.st_nlink, s.st_uid, s.st_size, s.st_mtime_ns
    def files(path): return [file(path + '/' + name) for name in sorted(os.listdir(path))]
    def processes(): return [name for name in os.listdir('/proc') if name.isdigit()]
    def children(): return repr(os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT))
    links = {n: f'/proc/self/fd/{n}' for n in sorted(os.listdir('/proc/self/fd'), key=int)}
    status = [line.split(':', 1) for line in open('/proc/self/status').read().splitlines()]
    wanted = (
        'SigPnd', 'SigBlk', 'SigIgn', 'SigCgt', 'ShdPnd', 'Uid', 'Gid', 'Groups', 'Cap', 'NoNewPrivs',
        'Seccomp', 'Umask', 'Threads', 'Cpus', 'VmLck',
    )
    folders = ('.', 'inputs', '/tmp', '/var/tmp', '/dev/shm', os.path.expanduser('~'), os.environ['TMPDIR'])
    return {
        'files': [told(files, path) for path in folders], 'folder': told(os.getcwd),
        'status': [line for line in status if line[0].startswith(wanted)],
        'descriptors': [(n, os.readlink(link)) for n, link in links.items() if os.path.lexists(link)],
        'processes': told(processes), 'threads': len(threading.enumerate()),
        'children': told(children),
        'limits': [resource.getrlimit(n) for n in range(16)],
        'priority': (os.nice(0), os.sched_getscheduler(0), sorted(os.sched_getaffinity(0))),
        'group': (os.getsid(0), os.getpgid(0)), 'dumpable': ctypes.CDLL(None).prctl(3, 0, 0, 0, 0),
        'handlers': [repr(signal.getsignal(n)) for n in range(1, 32)],
        'timers': [signal.getitimer(n) for n in range(3)],
        'environment': sorted(os.environ.items()),
        'path': list(sys.path), 'hooks': [id(h) for h in sys.meta_path],
        'builtins': sorted((name, id(value)) for name, value in vars(builtins).items() if name != '_'),
    }
print(json.dumps(state_of_session()))
"""


async def portrait(session: SandboxSession) -> str:
    """Draw a fresh session.

    Raises:
        RuntimeError: it does not work.
        SandboxDiedError: it is gone.
    """
    return await _printed(session, _PORTRAIT)


async def state(session: SandboxSession) -> str:
    """Return all that attacks in a session can change for those that come after them.

    Raises:
        RuntimeError: it does not work.
        SandboxDiedError: it is gone.
    """
    return await _printed(session, _STATE)


async def _printed(session: SandboxSession, code: str) -> str:
    result = await session.execute(code, timeout=_SECONDS)
    if result.outcome != "ok":
        raise RuntimeError(f"an honest session does not work: {result.error[-300:]}")
    return result.stdout


def difference(first: str, second: str) -> str:
    """Say in which of their parts two portraits, or two states, differ."""
    one, two = json.loads(first), json.loads(second)
    return ", ".join(f"{key}: {one[key]} became {two[key]}" for key in one if one[key] != two[key])
