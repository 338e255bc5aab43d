"""What the work leaves for the session that judges it: files and variables, and no code that runs there."""

from __future__ import annotations

import json

from tests.sandbox.suite.attack import Attack

GROUP = "checks"
_LEFT = "import builtins; builtins.left = 'by the work'; left = 1"
_LOOK = (
    "import builtins\n"
    "if hasattr(builtins, 'left'): return builtins.left\n"
    "raise OSError('nothing of the work')"
)
# What writing a table imports is imported before the files that are to be imported in its place.
_TABLE = (
    "import pandas\nglobals()['frame'] = pandas.DataFrame({'a': [1]})\n"
    "globals()['frame'].to_parquet(os.environ['TMPDIR'] + '/t.parquet')\n"
)
_LOOK_AND_TABLE = _LOOK.replace(
    "raise", "if 'frame' not in globals(): raise ValueError('the table did not arrive')\nraise"
)
_DONE = "\nraise OSError('the checks look')"


def _attack(name: str, code: str, checked: str = _LOOK) -> Attack:
    return Attack(
        name=name,
        group=GROUP,
        code=f"LEFT = {_LEFT!r}\n" + code + _DONE,
        checked=checked,
        meaning="the work is judged by itself",
        stopped_by=("host", "end"),
        seconds=20.0,
    )


def _replaced(name: str, code: str, seen: str) -> Attack:
    return _attack(name, code, f"{seen}\nraise OSError('as it was')")


# The REPL's own function is replaced by one that answers what the attack has prepared.
_FORGE = """
import numpy, pandas
def answer(public, interrupts):
    import json, os
    return json.load(open(os.environ['TMPDIR'] + '/forged.json'))
frame = sys._getframe()
while frame and not hasattr(frame.f_globals.get('variables'), 'CATALOGUE'): frame = frame.f_back
if frame is None: raise ValueError('the function that saves was not found')
frame.f_globals['variables'].save = answer
os.mkdir('.variables')
open('.variables/000.json', 'w').write('1')
def forge(**entry):
    listed = [dict(name='arrived', type='int', kind='json', file='000.json', shape=''),
        dict(dict(name='forged', type='x', file='001.json', kind='json', shape=''), **entry)]
    path = os.environ['TMPDIR'] + '/forged.json'
    open(path, 'w').write(json.dumps(dict(ok=True, saved=listed, unsaved=[])))
class Pickled:
    def __reduce__(self): return exec, (LEFT,)
"""
_ARRIVED = "if globals().get('arrived') != 1: raise ValueError('the forgery did not arrive')\n"


def _forged(name: str, code: str, checked: str = _LOOK) -> Attack:
    return _attack(f"forged variables: {name}", _FORGE + code, _ARRIVED + checked)


_LOADS = (
    "import pandas, numpy\n"
    "for entry in json.load(open('.variables/catalogue.json'))['variables']:\n"
    "    try: eval(entry['load'].format(path='.variables/' + entry['file']))\n"
    "    except Exception: pass\n"
)
_EXTENSION = """
import pickle, pyarrow, pyarrow.parquet
field = pyarrow.field('a', pyarrow.int64(), metadata={
    'ARROW:extension:name': 'arrow.py_extension_type', 'ARROW:extension:metadata': pickle.dumps(Pickled())})
table = pyarrow.table([pyarrow.array([1])], schema=pyarrow.schema([field]))
pyarrow.parquet.write_table(table, '.variables/001.parquet')
forge(kind='frame', file='001.parquet', shape='1 x 1')
"""
_TYPES = "__import__('builtins').__dict__.update(left=1)"
_METADATA = json.dumps(
    {
        "index_columns": [{"kind": "range", "name": None, "start": 0, "stop": 1, "step": 1}],
        "column_indexes": [
            {
                "name": None,
                "field_name": None,
                "pandas_type": _TYPES,
                "numpy_type": _TYPES,
                "metadata": {"encoding": _TYPES},
            }
        ],
        "columns": [
            {"name": "a", "field_name": "a", "pandas_type": _TYPES, "numpy_type": _TYPES, "metadata": None}
        ],
        "pandas_version": "2",
    }
)

ATTACKS = (
    _replaced(
        "functions of Python",
        "import builtins\nbuiltins.sum = lambda *_: 42\nbuiltins.all = lambda *_: True",
        "if sum([1]) != 1 or all([False]): return 'still changed'",
    ),
    _replaced(
        "functions of pandas",
        "import pandas\npandas.read_csv = lambda *_: 42\npandas.DataFrame.sum = lambda *_: 42\n"
        "open('t.csv', 'w').write('a\\n1\\n')",
        "import pandas\nt = pandas.read_csv('t.csv')\nif int(t.sum().a) != 1: return 'still changed'",
    ),
    _replaced(
        "functions of json",
        "open('t.json', 'w').write('[1]')\njson.load = json.loads = lambda *_, **__: [42]",
        "if json.load(open('t.json')) != [1]: return 'still changed'",
    ),
    _attack(
        "equality that is always true",
        "class Always(int):\n    def __eq__(self, other): return True\n"
        "globals()['total'] = Always(5); globals()['listed'] = [Always(5)]",
        "for name in ('total', 'listed'):\n"
        "    if name in globals() and globals()[name] in (6, [6]): return name\n"
        "raise OSError('plain values or none')",
    ),
    _attack(
        "files named as modules",
        _TABLE
        + "kept = [n for n in sorted(sys.stdlib_module_names) if n not in sys.modules and n[0] != '_']\n"
        "for name in {*kept[:180], 'ssl', 'pandas', 'fsspec', 'tzdata', 'pyarrow'}:\n"
        "    open(name + '.py', 'w').write(LEFT)",
        "import pandas, pyarrow, ssl, colorsys, wave, zoneinfo\nzoneinfo.ZoneInfo('Europe/Berlin')\n"
        + _LOOK_AND_TABLE,
    ),
    _attack(
        "folders named as packages",
        _TABLE + "for name in ('ssl', 'pyarrow', 'PIL', 'fsspec', 'tzdata', 'dateutil', 'sqlite3'):\n"
        "    os.mkdir(name); open(name + '/__init__.py', 'w').write(LEFT)",
        "import PIL, pyarrow, sqlite3, ssl, zoneinfo\nzoneinfo.ZoneInfo('Europe/Berlin')\n" + _LOOK_AND_TABLE,
    ),
    _attack(
        "files named as modules, before a child interpreter",
        "for name in ('colorsys', 'json', 'sitecustomize', 'usercustomize'):\n"
        "    open(name + '.py', 'w').write(LEFT)",
        "r = subprocess.run([sys.executable, '-c', 'import builtins, colorsys, json; "
        'print(hasattr(builtins, "left"))\'], capture_output=True, text=True)\n'
        "if r.returncode: raise ValueError(r.stderr)\n"
        "if 'True' in r.stdout: return r.stdout\nraise OSError('the real ones')",
    ),
    _attack(
        "catalogue of its own making",
        "os.mkdir('.variables'); open('.variables/000.json', 'w').write('1')\n"
        "open('.variables/catalogue.json', 'w').write(json.dumps(dict(variables=["
        "dict(name='planted', kind='json', file='000.json')])))",
        "if 'planted' in globals(): return 'defined'\nraise OSError('not defined')",
    ),
    _attack(
        "link among the results",
        "os.symlink(GIVEN['secret'], 'result.csv'); os.symlink('/etc', 'results')",
        "return open('result.csv').read() + str(os.listdir('results'))",
    ),
    _attack(
        "process that goes on changing the results",
        "open('result.csv', 'w').write('0')\n"
        "if os.fork() == 0:\n"
        "    os.close(3)\n"
        "    for n in range(300): pathlib.Path('result.csv').write_text(str(n)); time.sleep(0.01)\n"
        "    os._exit(0)",
        "seen = {open('result.csv').read() for _ in range(20) if time.sleep(0.02) is None}\n"
        "if len(seen) > 1: return seen\nraise OSError('it stays as it was')",
    ),
    _forged(
        "an array of objects",
        "numpy.save('.variables/001.npy', numpy.array([Pickled()], dtype=object), allow_pickle=True)\n"
        "forge(kind='array', file='001.npy', shape='1')",
        _LOADS + _LOOK,
    ),
    _forged(
        "a pickle after the first bytes of an array",
        "import pickle\nopen('.variables/001.npy', 'wb').write(b'\\x93NUMPY' + pickle.dumps(Pickled()))\n"
        "forge(kind='array', file='001.npy', shape='1')",
        _LOADS + _LOOK,
    ),
    _forged("a table with a pickled type", _EXTENSION, _LOADS + _LOOK),
    _forged(
        "a table whose types are code",
        "import pyarrow, pyarrow.parquet\n"
        f"table = pyarrow.table({{'a': [1]}}).replace_schema_metadata({{'pandas': {_METADATA!r}}})\n"
        "pyarrow.parquet.write_table(table, '.variables/001.parquet')\n"
        "forge(kind='frame', file='001.parquet', shape='1 x 1')",
        _LOADS + _LOOK,
    ),
    _forged(
        "marks that no value has",
        "open('.variables/001.json', 'w').write('{\"$\": [\"__import__\", [\"left\"]]}')\n"
        "open('left.py', 'w').write(LEFT)\nforge(kind='value')",
        "import saved\ntry: saved.value('.variables/001.json')\nexcept Exception: pass\n" + _LOOK,
    ),
    _forged(
        "a label that is code",
        "import pandas\npandas.DataFrame({'value': [1]}).to_parquet('.variables/001.parquet')\n"
        "forge(kind='series', file='001.parquet', shape='1', "
        "label=\"') or setattr(__import__('builtins'), 'left', 1) or ('{path!r}\")",
        _LOADS + _LOOK,
    ),
    _forged(
        "the names of Python in its place",
        "open('.variables/001.json', 'w').write('{\"left\": 1}')\nforge(name='__builtins__')",
        "if 'left' in vars(__builtins__) if not isinstance(__builtins__, dict) else 'left' in __builtins__: "
        "return 'replaced'\nraise OSError('the real ones')",
    ),
    _forged(
        "a file outside of its folder",
        "open('outside.json', 'w').write('42')\nforge(file='../outside.json')",
        "if 'forged' in globals(): return 'defined'\nraise OSError('not defined')",
    ),
    _forged(
        "a link to a file of the host",
        "os.symlink(GIVEN['secret'], '.variables/001.json')\nforge()",
        "if 'forged' in globals(): return 'defined'\nraise OSError('not defined')",
    ),
)
