"""What one session could leave for the next: each plants something, and the next session looks for it."""

from __future__ import annotations

from typing import Any

from tests.sandbox.suite.attack import Attack, Layer


def _attack(name: str, plant: str, look: str, *stopped_by: Layer, **more: Any) -> Attack:
    return Attack(
        name=name,
        group="persistence",
        code=plant + "\nraise OSError('the next session looks')",
        look=look,
        meaning="one task can act within the next one",
        stopped_by=stopped_by or ("end",),
        **more,
    )


def _file(name: str, path: str) -> Attack:
    return _attack(
        name,
        f"path = os.path.expanduser({path!r})\nos.makedirs(os.path.dirname(path) or '.', exist_ok=True)\n"
        "open(path, 'w').write('left = 1')",
        f"return open(os.path.expanduser({path!r})).read()",
    )


def _changed(name: str, change: str, seen: str) -> Attack:
    return _attack(name, change, f"if {seen}: return 'still changed'\nraise OSError('as it was')")


ATTACKS = (
    _file("file in its folder", "left.txt"),
    _file("file in /tmp", "/tmp/left.txt"),
    _file("file in /dev/shm", "/dev/shm/left"),
    _file("file in /var/tmp", "/var/tmp/left"),
    _file("profile of the shell", "~/.profile"),
    _file("settings of matplotlib", "~/.config/matplotlib/matplotlibrc"),
    _attack(
        "module that shadows a library",
        "open('json.py', 'w').write('left = 1')\nopen('pandas.py', 'w').write('left = 1')",
        "import importlib\n"
        "for name in ('json', 'pandas'):\n"
        "    if hasattr(importlib.reload(sys.modules.get(name) or __import__(name)), 'left'): return name\n"
        "raise OSError('the real ones')",
    ),
    _attack(
        "path file in the user's packages",
        "import site\nfolder = pathlib.Path(site.getusersitepackages()); folder.mkdir(parents=True)\n"
        "(folder / 'left.pth').write_text('import sys; sys.left = 1')\n"
        "(folder / 'sitecustomize.py').write_text('import sys; sys.left = 1')",
        "r = subprocess.run([sys.executable, '-c', 'import sys; print(hasattr(sys, \"left\"))'], "
        "capture_output=True, text=True)\n"
        "if 'True' in r.stdout: return r.stdout\nraise OSError(r.stdout)",
    ),
    _changed(
        "library replaced in memory",
        "import pandas\npandas.read_csv = lambda *a, **k: 'left'\njson.loads = lambda *a: {}",
        "__import__('pandas').read_csv.__name__ != 'read_csv' or json.loads('[1]') != [1]",
    ),
    _changed(
        "built-in functions replaced",
        "import builtins\nbuiltins.abs = lambda x: 0",
        "abs(-3) != 3",
    ),
    _changed(
        "import hook",
        "class Hook:\n"
        "    def find_spec(self, *a, **k): return None\n"
        "Hook.__name__ = 'LeftHook'\nsys.meta_path.insert(0, Hook())",
        "any(type(h).__name__ == 'LeftHook' for h in sys.meta_path)",
    ),
    _changed(
        "bytes of a shared object overwritten",
        "import pandas\nat = id(pandas.__version__) + sys.getsizeof('') - 1\nctypes.memset(at, 88, 1)",
        "__import__('pandas').__version__.startswith('X')",
    ),
    _changed(
        "machine code of the C library overwritten",
        "at = ctypes.cast(libc.getppid, ctypes.c_void_p).value\n"
        "if libc.mprotect(ctypes.c_void_p(at & ~4095), ctypes.c_size_t(8192), 7): "
        "raise OSError(ctypes.get_errno(), 'mprotect')\n"
        "ctypes.memset(at, 0xC3, 1)",
        "ctypes.string_at(ctypes.cast(libc.getppid, ctypes.c_void_p).value, 1)[0] == 0xC3",
    ),
    _changed(
        "environment variable", "os.environ['LEFT'] = '1'\nos.putenv('LEFT', '1')", "'LEFT' in os.environ"
    ),
    _changed("search path", "sys.path.insert(0, '/left')", "'/left' in sys.path"),
    _changed(
        "random numbers",
        "import random\nrandom.seed(1)\nrandom.SystemRandom = None",
        "__import__('random').random() == 0.13436424411240122 or __import__('random').SystemRandom is None",
    ),
    _changed("mask of new files", "os.umask(0o777)", "os.umask(0o022) == 0o777"),
    _changed(
        "settings of pandas",
        "import pandas\npandas.set_option('display.max_rows', 3)",
        "__import__('pandas').get_option('display.max_rows') == 3",
    ),
    _attack(
        "daemon",
        "if os.fork() == 0:\n"
        "    try: os.setsid()\n"
        "    except OSError: pass\n"
        "    if os.fork() == 0:\n"
        "        for n in range(256):\n"
        "            try: os.close(n)\n"
        "            except OSError: pass\n"
        "        for s in range(1, 32):\n"
        "            try: signal.signal(s, signal.SIG_IGN)\n"
        "            except (OSError, ValueError): pass\n"
        "        libc.prctl(15, GIVEN['daemon'].encode(), 0, 0, 0)\n"
        "        while True: time.sleep(1)\n"
        "    os._exit(0)\n"
        "time.sleep(0.1)",
        "for p in glob.glob('/proc/[0-9]*/comm'):\n"
        "    if open(p).read().strip() == GIVEN['daemon']: return p\n"
        "raise OSError('none')",
    ),
    _attack(
        "listener",
        "s = socket.socket(socket.AF_UNIX)\ns.bind('\\0left-behind')\ns.listen()\n"
        "if os.fork() == 0:\n    os.close(3)\n    time.sleep(20)\n    os._exit(0)",
        "s = socket.socket(socket.AF_UNIX)\ns.connect('\\0left-behind')\nreturn 'answered'",
        "end",
        "network",
        "seccomp",
    ),
)
