"""Reading, changing and writing tables."""

from __future__ import annotations

from tests.sandbox.suite.programmes.programme import programme

PROGRAMMES = (
    programme("dates of pandas", "import pandas as pd\nlen(pd.date_range('2024-02-01', '2024-03-01'))", "30"),
    programme(
        "excel",
        "import pandas as pd\npd.DataFrame({'a': [1, 2]}).to_excel('t.xlsx', index=False)\n"
        "int(pd.read_excel('t.xlsx').a.sum())",
        "3",
    ),
    programme(
        "several sheets",
        "import pandas as pd\n"
        "with pd.ExcelWriter('t.xlsx') as w:\n"
        "    for n in ('Jänner', 'Februar'): pd.DataFrame({'Umsatz €': [1, 2]}).to_excel(w, sheet_name=n)\n"
        "list(pd.read_excel('t.xlsx', sheet_name=None))",
        "['Jänner', 'Februar']",
    ),
    programme(
        "parquet",
        "import pandas as pd\nt = pd.DataFrame({'a': [1, 2], 'b': ['x', None]})\nt.to_parquet('t.parquet')\n"
        "pd.read_parquet('t.parquet').equals(t)",
        "True",
    ),
    programme(
        "a million rows grouped",
        "import numpy as np, pandas as pd\n"
        "t = pd.DataFrame({'k': np.arange(1_000_000) % 1000, 'v': np.ones(1_000_000)})\n"
        "float(t.groupby('k').v.sum().max())",
        "1000.0",
    ),
    programme(
        "joins and pivots",
        "import pandas as pd\n"
        "a = pd.DataFrame({'id': [1, 2, 3], 'r': ['n', 's', 'n']}); b = pd.DataFrame({'id': [1, "
        "2, 3], 'v': [5, 6, 7]})\n"
        "a.merge(b, on='id').pivot_table(index='r', values='v', aggfunc='sum').v.to_dict()",
        "{'n': 12, 's': 6}",
    ),
    programme(
        "weeks and rolling means",
        "import pandas as pd\ns = pd.Series(range(28), pd.date_range('2024-01-01', periods=28))\n"
        "s.resample('W').sum().tolist(), float(s.rolling(7).mean().iloc[-1])",
        "([21, 70, 119, 168], 24.0)",
    ),
    programme(
        "arrow's threads",
        "import pyarrow as pa, pyarrow.compute as pc\n"
        "pa.set_cpu_count(4)\nt = pa.table({'a': list(range(100000))})\n"
        "int(pc.sum(t['a']).as_py()), t.group_by('a', use_threads=True).aggregate([]).num_rows",
        "(4999950000, 100000)",
        "pyarrow",
    ),
    programme(
        "csv of many dialects",
        "import csv, io\n"
        "text = 'Name;Betrag\\n\"Müller; Söhne\";1,5\\n'\n"
        "list(csv.reader(io.StringIO(text), csv.Sniffer().sniff(text, ';')))",
        "[['Name', 'Betrag'], ['Müller; Söhne', '1,5']]",
    ),
    programme(
        "csv as offices write it",
        "import pandas as pd\nopen('t.csv', 'wb').write('Größe;Preis\\n1;1.234,5\\n'.encode('cp1252'))\n"
        "pd.read_csv('t.csv', sep=';', decimal=',', thousands='.', encoding='cp1252').to_dict('list')",
        "{'Größe': [1], 'Preis': [1234.5]}",
    ),
    programme(
        "sqlite",
        "import sqlite3\nc = sqlite3.connect('t.db'); c.execute('create table t(a)')\n"
        "c.execute('insert into t values (4)'); c.commit()\n"
        "r = c.execute('select a from t').fetchone()[0]\nc.close()\nr",
        "4",
    ),
    programme(
        "sqlite with a journal and pandas",
        "import sqlite3, pandas as pd\nc = sqlite3.connect('w.db')\n"
        "mode = c.execute('pragma journal_mode=wal').fetchone()[0]\n"
        "pd.DataFrame({'a': range(100)}).to_sql('t', c, index=False)\n"
        "r = pd.read_sql('select sum(a) s from t', c).s.tolist()\nc.close()\nmode, r",
        "('wal', [4950])",
    ),
    programme(
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
