"""The language itself and small parts of its library."""

from __future__ import annotations

from tests.sandbox.suite.programmes.programme import programme

PROGRAMMES = (
    programme(
        "time zones",
        "import datetime, zoneinfo\nz = zoneinfo.ZoneInfo\n"
        "t = datetime.datetime(2024, 7, 1, 12, tzinfo=z('Europe/Berlin'))\n"
        "str(t.utcoffset()), t.astimezone(z('Asia/Tokyo')).hour",
        "('2:00:00', 19)",
    ),
    programme(
        "dates",
        "import calendar, datetime as d\n"
        "(d.date(2024, 2, 29) + d.timedelta(365)).isoformat(), calendar.monthrange(2023, 2)[1], "
        "d.date(2024, 12, 30).isocalendar()[1]",
        "('2025-02-28', 28, 1)",
    ),
    programme(
        "regular expressions",
        "import re\nre.findall(r'(?P<k>\\w+)=(\\d+)', 'a=1, größe=22'), re.sub(r'(\\d+)', "
        "lambda m: str(int(m[1]) * 2), 'x7')",
        "([('a', '1'), ('größe', '22')], 'x14')",
    ),
    programme(
        "dataclasses",
        "from dataclasses import dataclass\n@dataclass(order=True)\nclass D:\n    a: int\nmax(D(1), D(2))",
        "D(a=2)",
    ),
    programme(
        "pickle of a class of its own",
        "import pickle\nclass P:\n    x = 1\ntype(pickle.loads(pickle.dumps(P()))).__name__",
        "'P'",
    ),
    programme(
        "copies and weak references",
        "import copy, gc, weakref\nclass A: pass\n"
        "a = A(); r = weakref.ref(a); b = copy.deepcopy([a]); del a; gc.collect()\n"
        "r() is None, len(b)",
        "(True, 1)",
    ),
    programme(
        "hash and uuid", "import hashlib, uuid\nlen(uuid.uuid4().hex + hashlib.sha256(b'').hexdigest())", "96"
    ),
    programme(
        "secrets and random",
        "import random, secrets\nrandom.seed(3)\n"
        "random.randint(1, 6), len(secrets.token_hex(8)), random.sample(range(9), 3)",
        "(2, 16, [8, 2, 7])",
    ),
    programme(
        "logging",
        "import io, logging\n"
        "s = io.StringIO(); l = logging.getLogger('x'); l.addHandler(logging.StreamHandler(s)); "
        "l.warning('careful %d', 5)\ns.getvalue()",
        "'careful 5\\n'",
    ),
    programme(
        "warnings",
        "import warnings\nwith warnings.catch_warnings(record=True) as w:\n"
        "    warnings.simplefilter('always'); warnings.warn('old')\nstr(w[0].message)",
        "'old'",
    ),
    programme(
        "recursion that is too deep",
        "def f(n): return f(n + 1)\ntry: f(0)\nexcept RecursionError as e: r = 'caught'\nr",
        "'caught'",
    ),
    programme(
        "typing, enum, functools",
        "import enum, functools, itertools\nclass C(enum.Enum):\n    A = 1\n@functools.cache\n"
        "def fib(n): return n if n < 2 else fib(n - 1) + fib(n - 2)\n"
        "C.A.name, fib(60), list(itertools.pairwise('abc'))",
        "('A', 1548008755920, [('a', 'b'), ('b', 'c')])",
    ),
    programme("modules of its own", "open('mine.py', 'w').write('x = 8')\nimport mine\nmine.x", "8"),
    programme("user name", "import getpass\ngetpass.getuser()", "'user'", boxed=True),
    programme("standard input is empty", "import sys\nsys.stdin.read()", "''"),
    programme("no value after an assignment", "x = 5", ""),
    programme("none is no value", "None", ""),
    programme(
        "time",
        "import time\na = time.perf_counter(); time.sleep(0.01)\n"
        "time.perf_counter() - a > 0.009, time.time() > 1.7e9",
        "(True, True)",
    ),
)
