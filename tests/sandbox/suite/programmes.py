"""Everyday programmes, with the value that each must come to. Nothing may be written to standard error."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass

from tests.sandbox.suite.attack import BOXED, EVERYWHERE


@dataclass(frozen=True, slots=True, kw_only=True)
class Programme:
    """One programme.

    Attributes:
        value: `repr` of its last expression.
        needs: packages; where one is not installed, the programme is not for this installation.
        tiers: where it must work.
        seconds: what it may take on a busy machine.
        online: it is granted the hosts of `online`.
    """

    name: str
    code: str
    value: str
    needs: tuple[str, ...] = ()
    tiers: frozenset[str] = EVERYWHERE
    seconds: float = 30.0
    online: bool = False


def _programme(name: str, code: str, value: str, *needs: str, boxed: bool = False) -> Programme:
    tiers = BOXED if boxed else EVERYWHERE
    return Programme(name=name, code=code, value=value, needs=needs, tiers=tiers)


_NUMBERS = (
    _programme("numpy", "import numpy as np\nfloat((np.eye(50) @ np.ones((50, 50))).sum())", "2500.0"),
    _programme(
        "linear algebra", "import numpy as np\nround(float(np.linalg.det(np.diag([2.0, 3.0]))), 6)", "6.0"
    ),
    _programme(
        "a least squares fit",
        "import numpy as np\nx = np.arange(10.0)\n[round(float(c), 6) for c in np.polyfit(x, 3 * x + 1, 1)]",
        "[3.0, 1.0]",
    ),
    _programme(
        "a Fourier transform",
        "import numpy as np\nint(np.abs(np.fft.rfft(np.sin(np.arange(64) * 2 * np.pi * 5 / 64))).argmax())",
        "5",
    ),
    _programme(
        "scipy",
        "from scipy import optimize\nround(float(optimize.brentq(lambda x: x * x - 2, 0, 2)), 6)",
        "1.414214",
        "scipy",
    ),
    _programme(
        "statistics",
        "import statistics\nstatistics.median([3, 1, 2]), statistics.stdev([1, 2, 3])",
        "(2, 1.0)",
    ),
    _programme(
        "decimals",
        "from decimal import ROUND_HALF_UP, Decimal\n"
        "str((Decimal('19.99') * Decimal('0.19')).quantize(Decimal('0.01'), ROUND_HALF_UP))",
        "'3.80'",
    ),
    _programme(
        "fractions",
        "from fractions import Fraction\nstr(sum(Fraction(1, n) for n in range(1, 5)))",
        "'25/12'",
    ),
    _programme(
        "large integers",
        "len(str(3 ** 20000 % 10 ** 400)) <= 400, 2 ** 100",
        "(True, 1267650600228229401496703205376)",
    ),
    _programme(
        "formats without a locale",
        "f'{1234567.891:,.2f}'.translate(str.maketrans(',.', '.,'))",
        "'1.234.567,89'",
    ),
)

_TABLES = (
    _programme(
        "dates of pandas", "import pandas as pd\nlen(pd.date_range('2024-02-01', '2024-03-01'))", "30"
    ),
    _programme(
        "excel",
        "import pandas as pd\npd.DataFrame({'a': [1, 2]}).to_excel('t.xlsx', index=False)\n"
        "int(pd.read_excel('t.xlsx').a.sum())",
        "3",
    ),
    _programme(
        "several sheets",
        "import pandas as pd\n"
        "with pd.ExcelWriter('t.xlsx') as w:\n"
        "    for n in ('Jänner', 'Februar'): pd.DataFrame({'Umsatz €': [1, 2]}).to_excel(w, sheet_name=n)\n"
        "list(pd.read_excel('t.xlsx', sheet_name=None))",
        "['Jänner', 'Februar']",
    ),
    _programme(
        "parquet",
        "import pandas as pd\nt = pd.DataFrame({'a': [1, 2], 'b': ['x', None]})\nt.to_parquet('t.parquet')\n"
        "pd.read_parquet('t.parquet').equals(t)",
        "True",
    ),
    _programme(
        "a million rows grouped",
        "import numpy as np, pandas as pd\n"
        "t = pd.DataFrame({'k': np.arange(1_000_000) % 1000, 'v': np.ones(1_000_000)})\n"
        "float(t.groupby('k').v.sum().max())",
        "1000.0",
    ),
    _programme(
        "joins and pivots",
        "import pandas as pd\n"
        "a = pd.DataFrame({'id': [1, 2, 3], 'r': ['n', 's', 'n']}); b = pd.DataFrame({'id': [1, "
        "2, 3], 'v': [5, 6, 7]})\n"
        "a.merge(b, on='id').pivot_table(index='r', values='v', aggfunc='sum').v.to_dict()",
        "{'n': 12, 's': 6}",
    ),
    _programme(
        "weeks and rolling means",
        "import pandas as pd\ns = pd.Series(range(28), pd.date_range('2024-01-01', periods=28))\n"
        "s.resample('W').sum().tolist(), float(s.rolling(7).mean().iloc[-1])",
        "([21, 70, 119, 168], 24.0)",
    ),
    _programme(
        "arrow's threads",
        "import pyarrow as pa, pyarrow.compute as pc\n"
        "pa.set_cpu_count(4)\nt = pa.table({'a': list(range(100000))})\n"
        "int(pc.sum(t['a']).as_py()), t.group_by('a', use_threads=True).aggregate([]).num_rows",
        "(4999950000, 100000)",
        "pyarrow",
    ),
    _programme(
        "csv of many dialects",
        "import csv, io\n"
        "text = 'Name;Betrag\\n\"Müller; Söhne\";1,5\\n'\n"
        "list(csv.reader(io.StringIO(text), csv.Sniffer().sniff(text, ';')))",
        "[['Name', 'Betrag'], ['Müller; Söhne', '1,5']]",
    ),
    _programme(
        "csv as offices write it",
        "import pandas as pd\nopen('t.csv', 'wb').write('Größe;Preis\\n1;1.234,5\\n'.encode('cp1252'))\n"
        "pd.read_csv('t.csv', sep=';', decimal=',', thousands='.', encoding='cp1252').to_dict('list')",
        "{'Größe': [1], 'Preis': [1234.5]}",
    ),
    _programme(
        "sqlite",
        "import sqlite3\nc = sqlite3.connect('t.db'); c.execute('create table t(a)')\n"
        "c.execute('insert into t values (4)'); c.commit()\n"
        "r = c.execute('select a from t').fetchone()[0]\nc.close()\nr",
        "4",
    ),
    _programme(
        "sqlite with a journal and pandas",
        "import sqlite3, pandas as pd\nc = sqlite3.connect('w.db')\n"
        "mode = c.execute('pragma journal_mode=wal').fetchone()[0]\n"
        "pd.DataFrame({'a': range(100)}).to_sql('t', c, index=False)\n"
        "r = pd.read_sql('select sum(a) s from t', c).s.tolist()\nc.close()\nmode, r",
        "('wal', [4950])",
    ),
    _programme(
        "styles of openpyxl",
        "import openpyxl\nfrom openpyxl.styles import Font, PatternFill\n"
        "from openpyxl.chart import BarChart, Reference\n"
        "b = openpyxl.Workbook(); s = b.active\ns['A1'] = 'Summe'; s['A1'].font = Font(bold=True)\n"
        "s['A1'].fill = PatternFill('solid', fgColor='FFCC00'); s['B1'] = '=SUM(B2:B3)'; "
        "s['B2'] = 5; s['B3'] = 6\n"
        "c = BarChart(); c.add_data(Reference(s, min_col=2, min_row=2, max_row=3)); s.add_chart(c, 'D2')\n"
        "b.save('b.xlsx')\nr = openpyxl.load_workbook('b.xlsx').active\n"
        "r['A1'].font.b, r['B1'].value, r['B2'].value",
        "(True, '=SUM(B2:B3)', 5)",
    ),
)

_PICTURES = (
    _programme(
        "plot with umlauts",
        "import matplotlib.pyplot as plt\nplt.plot([1, 3, 2]); plt.title('Umsätze in € – größer ≥ 5 %')\n"
        "plt.savefig('p.png'); plt.close()\nopen('p.png', 'rb').read(4)",
        "b'\\x89PNG'",
    ),
    _programme(
        "plot as PDF and SVG",
        "import matplotlib.pyplot as plt\n"
        "plt.bar(['ä', 'ß'], [1, 2]); plt.savefig('p.pdf'); plt.savefig('p.svg'); plt.close()\n"
        "open('p.pdf', 'rb').read(5), '<svg' in open('p.svg').read()",
        "(b'%PDF-', True)",
    ),
    _programme(
        "pages of a PDF",
        "import matplotlib.pyplot as plt\nfrom matplotlib.backends.backend_pdf import PdfPages\n"
        "with PdfPages('r.pdf') as pages:\n"
        "    for n in range(3):\n"
        "        plt.figure(); plt.plot(range(n + 2)); pages.savefig(); plt.close()\n"
        "    r = pages.get_pagecount()\n"
        "r",
        "3",
    ),
    _programme(
        "styles and subplots",
        "import matplotlib.pyplot as plt, numpy as np\n"
        "with plt.style.context('seaborn-v0_8-whitegrid'):\n"
        "    f, axes = plt.subplots(2, 2, figsize=(6, 4), layout='constrained')\n"
        "    for a in axes.flat: a.scatter(np.arange(9), np.arange(9) ** 2, c=np.arange(9), cmap='viridis')\n"
        "    f.savefig('s.png', dpi=80)\nplt.close(f)\nplt.imread('s.png').shape",
        "(320, 480, 4)",
    ),
    _programme(
        "formulas in plots",
        "import matplotlib.pyplot as plt\nplt.text(0.1, 0.5, r'$\\frac{\\alpha}{\\sqrt{2}} \\cdot 10^{3}$')\n"
        "plt.savefig('f.png'); plt.close()\nlen(open('f.png', 'rb').read()) > 1000",
        "True",
    ),
    _programme(
        "dates on an axis",
        "import matplotlib.pyplot as plt, pandas as pd\n"
        "pd.Series(range(400), pd.date_range('2023-01-01', periods=400)).plot(title='Jahr')\n"
        "plt.savefig('d.png'); plt.close()\nopen('d.png', 'rb').read(4)",
        "b'\\x89PNG'",
    ),
    _programme(
        "pictures",
        "from PIL import Image, ImageDraw\n"
        "i = Image.new('RGB', (60, 40), 'white'); ImageDraw.Draw(i).ellipse((5, 5, 30, 30), "
        "'red')\n"
        "i.resize((30, 20)).save('i.jpg', quality=90); i.save('i.webp'); j = Image.open('i.jpg')\n"
        "(j.size, j.format, i.getpixel((15, 15)))",
        "((30, 20), 'JPEG', (255, 0, 0))",
        "PIL",
    ),
)

_FILES = (
    _programme(
        "zip",
        "import zipfile\n"
        "with zipfile.ZipFile('t.zip', 'w', zipfile.ZIP_DEFLATED) as z: z.writestr('ä/b.txt', "
        "'hello')\n"
        "with zipfile.ZipFile('t.zip') as z: r = z.namelist(), z.read('ä/b.txt')\nr",
        "(['ä/b.txt'], b'hello')",
    ),
    _programme(
        "tar",
        "import tarfile, pathlib, shutil\npathlib.Path('d').mkdir(); pathlib.Path('d/a').write_text('x')\n"
        "with tarfile.open('t.tar.gz', 'w:gz') as t: t.add('d')\nshutil.rmtree('d')\n"
        "with tarfile.open('t.tar.gz') as t: t.extractall('.', filter='data')\n"
        "pathlib.Path('d/a').read_text()",
        "'x'",
    ),
    _programme(
        "compression",
        "import bz2, gzip, lzma, zlib\n"
        "[len(m.decompress(m.compress(b'a' * 9999))) for m in (bz2, gzip, lzma, zlib)]",
        "[9999, 9999, 9999, 9999]",
    ),
    _programme(
        "temporary files",
        "import tempfile\nwith tempfile.NamedTemporaryFile('w+') as f:\n"
        "    f.write('x'); f.seek(0); r = f.read()\n"
        "with tempfile.TemporaryDirectory() as d: open(d + '/a', 'w').close()\nr",
        "'x'",
    ),
    _programme(
        "searching folders",
        "import pathlib\nfor n in ('a/1.csv', 'a/b/2.csv', 'a/b/3.txt'):\n"
        "    p = pathlib.Path(n); p.parent.mkdir(parents=True, exist_ok=True); p.write_text(n)\n"
        "sorted(str(p) for p in pathlib.Path('a').rglob('*.csv'))",
        "['a/1.csv', 'a/b/2.csv']",
    ),
    _programme(
        "names with umlauts", "open('Größe 漢字.txt', 'w').write('ä')\nopen('Größe 漢字.txt').read()", "'ä'"
    ),
    _programme(
        "moving, copying, removing",
        "import os, shutil\n"
        "open('a', 'w').write('x'); shutil.copy2('a', 'b'); os.replace('b', 'c'); os.chmod('c', 0o600)\n"
        "s = os.stat('c'); os.remove('a')\n(s.st_size, sorted(p for p in os.listdir() if p in 'abc'))",
        "(1, ['c'])",
    ),
    _programme(
        "permissions of files",
        "import os\nopen('a', 'w').close(); os.chmod('a', 0o600)\noct(os.stat('a').st_mode & 0o777)",
        "'0o600'",
        boxed=True,
    ),
    _programme(
        "memory maps",
        "import mmap\nopen('m', 'wb').write(b'abc' * 999)\n"
        "with open('m', 'r+b') as f, mmap.mmap(f.fileno(), 0) as m: m[0:1] = b'X'\n"
        "open('m', 'rb').read(2)",
        "b'Xb'",
    ),
    _programme(
        "json, xml, ini, toml",
        "import configparser, json, tomllib\nimport xml.etree.ElementTree as et\n"
        "c = configparser.ConfigParser(); c.read_string('[a]\\nb = 1')\n"
        "(json.loads(json.dumps({'ä': [1.5, None]})), "
        "et.fromstring('<a><b>x</b></a>').find('b').text, c['a']['b'], tomllib.loads('a = 1'))",
        "({'ä': [1.5, None]}, 'x', '1', {'a': 1})",
    ),
    _programme("yaml", "import yaml\nyaml.safe_load('a: [1, 2]\\nb: ä')", "{'a': [1, 2], 'b': 'ä'}", "yaml"),
    _programme(
        "html",
        "from html.parser import HTMLParser\nfrom html import unescape\nseen = []\n"
        "class P(HTMLParser):\n    def handle_data(self, d): seen.append(d)\n"
        "P().feed('<p>a<b>b</b></p>')\nseen, unescape('&auml;')",
        "(['a', 'b'], 'ä')",
    ),
    _programme(
        "mail",
        "from email.message import EmailMessage\n"
        "m = EmailMessage(); m['Subject'] = 'Grüße'; m.set_content('ä')\nlen(bytes(m)) > 50",
        "True",
    ),
)

_LANGUAGE = (
    _programme(
        "time zones",
        "import datetime, zoneinfo\nz = zoneinfo.ZoneInfo\n"
        "t = datetime.datetime(2024, 7, 1, 12, tzinfo=z('Europe/Berlin'))\n"
        "str(t.utcoffset()), t.astimezone(z('Asia/Tokyo')).hour",
        "('2:00:00', 19)",
    ),
    _programme(
        "dates",
        "import calendar, datetime as d\n"
        "(d.date(2024, 2, 29) + d.timedelta(365)).isoformat(), calendar.monthrange(2023, 2)[1], "
        "d.date(2024, 12, 30).isocalendar()[1]",
        "('2025-02-28', 28, 1)",
    ),
    _programme(
        "regular expressions",
        "import re\nre.findall(r'(?P<k>\\w+)=(\\d+)', 'a=1, größe=22'), re.sub(r'(\\d+)', "
        "lambda m: str(int(m[1]) * 2), 'x7')",
        "([('a', '1'), ('größe', '22')], 'x14')",
    ),
    _programme(
        "dataclasses",
        "from dataclasses import dataclass\n@dataclass(order=True)\nclass D:\n    a: int\nmax(D(1), D(2))",
        "D(a=2)",
    ),
    _programme(
        "pickle of a class of its own",
        "import pickle\nclass P:\n    x = 1\ntype(pickle.loads(pickle.dumps(P()))).__name__",
        "'P'",
    ),
    _programme(
        "copies and weak references",
        "import copy, gc, weakref\nclass A: pass\n"
        "a = A(); r = weakref.ref(a); b = copy.deepcopy([a]); del a; gc.collect()\n"
        "r() is None, len(b)",
        "(True, 1)",
    ),
    _programme(
        "hash and uuid", "import hashlib, uuid\nlen(uuid.uuid4().hex + hashlib.sha256(b'').hexdigest())", "96"
    ),
    _programme(
        "secrets and random",
        "import random, secrets\nrandom.seed(3)\n"
        "random.randint(1, 6), len(secrets.token_hex(8)), random.sample(range(9), 3)",
        "(2, 16, [8, 2, 7])",
    ),
    _programme(
        "logging",
        "import io, logging\n"
        "s = io.StringIO(); l = logging.getLogger('x'); l.addHandler(logging.StreamHandler(s)); "
        "l.warning('careful %d', 5)\ns.getvalue()",
        "'careful 5\\n'",
    ),
    _programme(
        "warnings",
        "import warnings\nwith warnings.catch_warnings(record=True) as w:\n"
        "    warnings.simplefilter('always'); warnings.warn('old')\nstr(w[0].message)",
        "'old'",
    ),
    _programme(
        "recursion that is too deep",
        "def f(n): return f(n + 1)\ntry: f(0)\nexcept RecursionError as e: r = 'caught'\nr",
        "'caught'",
    ),
    _programme(
        "typing, enum, functools",
        "import enum, functools, itertools\nclass C(enum.Enum):\n    A = 1\n@functools.cache\n"
        "def fib(n): return n if n < 2 else fib(n - 1) + fib(n - 2)\n"
        "C.A.name, fib(60), list(itertools.pairwise('abc'))",
        "('A', 1548008755920, [('a', 'b'), ('b', 'c')])",
    ),
    _programme("modules of its own", "open('mine.py', 'w').write('x = 8')\nimport mine\nmine.x", "8"),
    _programme("user name", "import getpass\ngetpass.getuser()", "'user'", boxed=True),
    _programme("standard input is empty", "import sys\nsys.stdin.read()", "''"),
    _programme("no value after an assignment", "x = 5", ""),
    _programme("none is no value", "None", ""),
    _programme(
        "time",
        "import time\na = time.perf_counter(); time.sleep(0.01)\n"
        "time.perf_counter() - a > 0.009, time.time() > 1.7e9",
        "(True, True)",
    ),
)

_CONCURRENCY = (
    _programme(
        "threads",
        "from concurrent.futures import ThreadPoolExecutor\n"
        "with ThreadPoolExecutor(4) as p: r = list(p.map(lambda x: x * x, range(5)))\nr",
        "[0, 1, 4, 9, 16]",
    ),
    _programme(
        "locks, queues, events",
        "import queue, threading\nq = queue.Queue(); e = threading.Event()\n"
        "t = threading.Thread(target=lambda: (e.wait(5), q.put(7))); t.start(); e.set(); t.join()\n"
        "q.get(timeout=5)",
        "7",
    ),
    _programme(
        "asyncio",
        "import asyncio\nasync def f(n):\n    await asyncio.sleep(0.01)\n    return n\n"
        "async def g(): return await asyncio.gather(*(f(n) for n in range(5)))\n"
        "asyncio.run(g())",
        "[0, 1, 2, 3, 4]",
    ),
    _programme(
        "asyncio with a thread and a process",
        "import asyncio\nasync def f():\n"
        "    p = await asyncio.create_subprocess_exec('echo', 'hi', "
        "stdout=asyncio.subprocess.PIPE)\n    out, _ = await p.communicate()\n"
        "    return out, await asyncio.to_thread(lambda: 5)\nasyncio.run(f())",
        "(b'hi\\n', 5)",
    ),
    _programme(
        "processes",
        "import multiprocessing\ndef double(x): return 2 * x\n"
        "with multiprocessing.Pool(2) as p: r = p.map(double, [1, 2])\nr",
        "[2, 4]",
        boxed=True,
    ),
    _programme(
        "processes that are spawned",
        "open('work.py', 'w').write('def triple(x): return 3 * x')\nimport work\n"
        "from concurrent.futures import ProcessPoolExecutor\nimport multiprocessing\n"
        "with ProcessPoolExecutor(2, "
        "mp_context=multiprocessing.get_context('spawn')) as p: r = list(p.map(work.triple, [1, "
        "2]))\nr",
        "[3, 6]",
        boxed=True,
    ),
    _programme(
        "shared memory",
        "from multiprocessing import shared_memory\n"
        "s = shared_memory.SharedMemory(create=True, size=100); s.buf[0] = 7; r = s.buf[0]\n"
        "s.close(); s.unlink()\nr",
        "7",
        boxed=True,
    ),
    _programme(
        "subprocess",
        "import subprocess\nsubprocess.run(['echo', 'hi'], capture_output=True, text=True).stdout",
        "'hi\\n'",
    ),
    _programme(
        "shell",
        "import subprocess\nsubprocess.run('printf \"b\\\\na\\\\n"
        "\" | sort | head -1', shell=True, capture_output=True, text=True).stdout",
        "'a\\n'",
    ),
    _programme(
        "child interpreter",
        "import subprocess, sys\n"
        "subprocess.run([sys.executable, '-c', 'import numpy; print(numpy.arange(3).sum())'], "
        "capture_output=True, text=True).stdout",
        "'3\\n'",
    ),
    _programme(
        "no fonts are searched in child processes",
        "import subprocess, sys\n"
        "subprocess.run([sys.executable, '-c', 'import matplotlib.font_manager'], "
        "capture_output=True, text=True).stderr",
        "''",
    ),
    _programme(
        "alarm",
        "import signal, time\nseen = []\n"
        "signal.signal(signal.SIGALRM, lambda *a: seen.append(1)); "
        "signal.setitimer(signal.ITIMER_REAL, 0.02); time.sleep(0.1)\nseen",
        "[1]",
    ),
)


def _online(name: str, code: str, value: str, *needs: str) -> Programme:
    return Programme(name=name, code=code, value=value, needs=needs, tiers=BOXED, online=True)


_NETWORK = (
    _online(
        "urllib over TLS, with a token",
        "import os, urllib.request\n"
        "r = urllib.request.Request('https://api.example.org/v1', "
        "headers={'Authorization': 'Bearer ' + os.environ['API_TOKEN']})\n"
        "with urllib.request.urlopen(r) as a: s = a.status, a.readline()\ns",
        "(200, b'reached api.example.org\\n')",
    ),
    _online(
        "requests",
        "import requests\nr = requests.post('https://api.example.org/v1', json={'größe': 1}, timeout=20)\n"
        "r.status_code, r.text.splitlines()[0], 'gr\\\\u00f6\\\\u00dfe' in r.text",
        "(200, 'reached api.example.org', True)",
        "requests",
    ),
    _online(
        "httpx, many at once",
        "import asyncio, httpx\nasync def ask():\n"
        "    async with httpx.AsyncClient(timeout=20) as c:\n"
        "        a = await asyncio.gather(*(c.get(f'https://api.example.org/{n}') for n in range(5)))\n"
        "    return [r.status_code for r in a]\nasyncio.run(ask())",
        "[200, 200, 200, 200, 200]",
        "httpx",
    ),
    _online(
        "a table from the web",
        "import pandas as pd\nint(pd.read_csv('https://api.example.org/table.csv').amount.sum())",
        "30",
    ),
    _online(
        "AWS by boto3",
        "import boto3\n"
        "bill = boto3.client('ce').get_cost_and_usage(Granularity='MONTHLY', Metrics=['UnblendedCost'], "
        "TimePeriod={'Start': '2026-11-01', 'End': '2026-12-01'})\n"
        "boto3.client('sts').get_caller_identity()['Account'], bill['ResultsByTime']",
        "('123456789012', [])",
        "boto3",
    ),
    _online(
        "a host that was not granted",
        "import urllib.error, urllib.request\n"
        "try: urllib.request.urlopen('http://foreign.example.com/')\n"
        "except urllib.error.HTTPError as e: r = e.code\nr",
        "403",
    ),
)

GROUPS: Mapping[str, tuple[Programme, ...]] = {
    "numbers": _NUMBERS,
    "tables": _TABLES,
    "pictures": _PICTURES,
    "files": _FILES,
    "language": _LANGUAGE,
    "concurrency": _CONCURRENCY,
    "network": _NETWORK,
}
BY_NAME = {programme.name: programme for group in GROUPS.values() for programme in group}
if len(BY_NAME) != sum(len(group) for group in GROUPS.values()):
    raise ValueError("two programmes have the same name")


def for_tier(tier: str) -> tuple[tuple[str, Programme], ...]:
    """Return group and programme for those that must work in a tier with the packages that are installed."""
    return tuple(
        (name, programme)
        for name, group in GROUPS.items()
        for programme in group
        if tier in programme.tiers and all(importlib.util.find_spec(package) for package in programme.needs)
    )
