"""Files, archives and their formats."""

from __future__ import annotations

from tests.sandbox.suite.programmes.programme import programme

PROGRAMMES = (
    programme(
        "zip",
        "import zipfile\n"
        "with zipfile.ZipFile('t.zip', 'w', zipfile.ZIP_DEFLATED) as z: z.writestr('ä/b.txt', "
        "'hello')\n"
        "with zipfile.ZipFile('t.zip') as z: r = z.namelist(), z.read('ä/b.txt')\nr",
        "(['ä/b.txt'], b'hello')",
    ),
    programme(
        "tar",
        "import tarfile, pathlib, shutil\npathlib.Path('d').mkdir(); pathlib.Path('d/a').write_text('x')\n"
        "with tarfile.open('t.tar.gz', 'w:gz') as t: t.add('d')\nshutil.rmtree('d')\n"
        "with tarfile.open('t.tar.gz') as t: t.extractall('.', filter='data')\n"
        "pathlib.Path('d/a').read_text()",
        "'x'",
    ),
    programme(
        "compression",
        "import bz2, gzip, lzma, zlib\n"
        "[len(m.decompress(m.compress(b'a' * 9999))) for m in (bz2, gzip, lzma, zlib)]",
        "[9999, 9999, 9999, 9999]",
    ),
    programme(
        "temporary files",
        "import tempfile\nwith tempfile.NamedTemporaryFile('w+') as f:\n"
        "    f.write('x'); f.seek(0); r = f.read()\n"
        "with tempfile.TemporaryDirectory() as d: open(d + '/a', 'w').close()\nr",
        "'x'",
    ),
    programme(
        "searching folders",
        "import pathlib\nfor n in ('a/1.csv', 'a/b/2.csv', 'a/b/3.txt'):\n"
        "    p = pathlib.Path(n); p.parent.mkdir(parents=True, exist_ok=True); p.write_text(n)\n"
        "sorted(str(p) for p in pathlib.Path('a').rglob('*.csv'))",
        "['a/1.csv', 'a/b/2.csv']",
    ),
    programme(
        "names with umlauts", "open('Größe 漢字.txt', 'w').write('ä')\nopen('Größe 漢字.txt').read()", "'ä'"
    ),
    programme(
        "moving, copying, removing",
        "import os, shutil\n"
        "open('a', 'w').write('x'); shutil.copy2('a', 'b'); os.replace('b', 'c'); os.chmod('c', 0o600)\n"
        "s = os.stat('c'); os.remove('a')\n(s.st_size, sorted(p for p in os.listdir() if p in 'abc'))",
        "(1, ['c'])",
    ),
    programme(
        "permissions of files",
        "import os\nopen('a', 'w').close(); os.chmod('a', 0o600)\noct(os.stat('a').st_mode & 0o777)",
        "'0o600'",
        boxed=True,
    ),
    programme(
        "memory maps",
        "import mmap\nopen('m', 'wb').write(b'abc' * 999)\n"
        "with open('m', 'r+b') as f, mmap.mmap(f.fileno(), 0) as m: m[0:1] = b'X'\n"
        "open('m', 'rb').read(2)",
        "b'Xb'",
    ),
    programme(
        "json, xml, ini, toml",
        "import configparser, json, tomllib\nimport xml.etree.ElementTree as et\n"
        "c = configparser.ConfigParser(); c.read_string('[a]\\nb = 1')\n"
        "(json.loads(json.dumps({'ä': [1.5, None]})), "
        "et.fromstring('<a><b>x</b></a>').find('b').text, c['a']['b'], tomllib.loads('a = 1'))",
        "({'ä': [1.5, None]}, 'x', '1', {'a': 1})",
    ),
    programme("yaml", "import yaml\nyaml.safe_load('a: [1, 2]\\nb: ä')", "{'a': [1, 2], 'b': 'ä'}", "yaml"),
    programme(
        "html",
        "from html.parser import HTMLParser\nfrom html import unescape\nseen = []\n"
        "class P(HTMLParser):\n    def handle_data(self, d): seen.append(d)\n"
        "P().feed('<p>a<b>b</b></p>')\nseen, unescape('&auml;')",
        "(['a', 'b'], 'ä')",
    ),
    programme(
        "mail",
        "from email.message import EmailMessage\n"
        "m = EmailMessage(); m['Subject'] = 'Grüße'; m.set_content('ä')\nlen(bytes(m)) > 50",
        "True",
    ),
)
