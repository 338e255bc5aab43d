"""Demo: a description of any CSV that a person uploads."""

from __future__ import annotations

import re

from pythonic_assistant.adapters.models.scripted import (
    Figures,
    Scenario,
    ScriptedCode,
    ScriptedProof,
    ScriptedStep,
)

_SHOWN = 30
"""Columns in the table of the answer; the file that is left has all."""

_READ = """\
import csv
import json
from pathlib import Path

import pandas as pd

files = sorted(path for path in Path("inputs").iterdir() if path.suffix.lower() in (".csv", ".tsv", ".txt"))
own = [path for path in files if path.name != "penguins.csv"] or files
assert own, "There is no CSV file in inputs/."
path = own[0]
raw = path.read_bytes()
encoding = "utf-8-sig"
try:
    text = raw.decode(encoding)
except UnicodeDecodeError:
    encoding = "latin-1"
    text = raw.decode(encoding)
first_line = next((line for line in text.splitlines() if line.strip()), "")
assert first_line, f"{path.name} is empty."
separator = max(",;\\t|", key=first_line.count)
records = [record for record in csv.reader(text.splitlines(keepends=True), delimiter=separator) if record]
header, body = records[0], records[1:]
width = len(header)
ragged = sum(len(record) != width for record in body)
body = [(record + [""] * width)[:width] for record in body]
table = pd.DataFrame(body, columns=range(width), dtype=str)
print(f"{path.name}: {len(table):,} rows, {width} columns")
found = {"file": path.name, "encoding": encoding, "separator": separator, "rows": len(body), "columns": width}
print("RESULT " + json.dumps(found))
"""

_DESCRIBE = f"""\
MISSING = {{"", "na", "n/a", "nan", "null", "none", "<na>", "#n/a"}}
columns, odd = [], []
if ragged:
    odd.append(f"{{ragged:,}} rows have more or fewer fields than the header.")
repeated = len(body) - len(set(map(tuple, body)))
if repeated:
    odd.append(f"{{repeated:,}} rows repeat an earlier row exactly.")
if len(set(header)) < width or not all(name.strip() for name in header):
    odd.append("Names of columns are missing or repeated.")
for index, name in enumerate(header):
    cells = table[index]
    present = cells[~cells.str.strip().str.lower().isin(MISSING)]
    numbers = pd.to_numeric(present, errors="coerce").dropna()
    share = len(numbers) / len(present) if len(present) else 0
    kind = "number" if share == 1 else "mostly numbers" if share > 0.8 else "text"
    kind = kind if len(present) else "empty"
    missing = len(cells) - len(present)
    distinct = present.nunique()
    if kind == "number":
        example = f"{{numbers.min():g}} to {{numbers.max():g}}"
    else:
        example = ", ".join(str(value)[:30] for value in present.value_counts().index[:3])
    column = {{"name": name[:60], "kind": kind, "missing": missing, "distinct": distinct}}
    columns.append({{**column, "values": example}})
    label = f"`{{name[:60]}}`"
    if kind == "empty":
        odd.append(f"{{label}} is empty.")
    elif missing > len(cells) / 2:
        odd.append(f"{{label}} is missing in {{missing:,}} of {{len(cells):,}} rows.")
    if distinct == 1 and len(present) > 1:
        odd.append(f"{{label}} has one value only.")
    if kind == "mostly numbers":
        words = present[pd.to_numeric(present, errors="coerce").isna()]
        sample = repr(words.iloc[0][:30])
        odd.append(f"{{label}} holds {{len(words):,}} values that are no numbers, such as {{sample}}.")
    if kind == "number" and len(numbers) >= 8:
        low, high = numbers.quantile([0.25, 0.75])
        far = numbers[(numbers < low - 3 * (high - low)) | (numbers > high + 3 * (high - low))]
        if high > low and len(far):
            furthest = far.loc[(far - numbers.median()).abs().idxmax()]
            odd.append(f"{{label}} has {{len(far):,}} values far from the others, such as {{furthest:g}}.")
        if 0 < (numbers < 0).mean() < 0.05:
            odd.append(f"{{label}} has {{(numbers < 0).sum():,}} negative values among positive ones.")
    if kind == "text":
        padded = (present != present.str.strip()).sum()
        if padded:
            odd.append(f"{{label}} has {{padded:,}} values with spaces around them.")
        if present.str.strip().str.lower().nunique() < present.str.strip().nunique():
            odd.append(f"{{label}} writes the same value in capitals and in small letters.")
pd.DataFrame(columns).to_csv("columns.csv", index=False)
print(pd.DataFrame(columns).to_string(index=False, max_rows=40))
print("\\n".join(odd[:20]))
figures = {{
    "missing": sum(column["missing"] for column in columns),
    "repeated": repeated,
    "odd": odd[:12],
    "more_odd": max(0, len(odd) - 12),
    "described": columns[:{_SHOWN}],
}}
line = json.dumps(figures)
while len(line) > 3500 and figures["described"]:
    figures["described"].pop()
    line = json.dumps(figures)
print("RESULT " + line)
"""

_AGAIN = """\
import pandas as pd
MISSING = {"", "na", "n/a", "nan", "null", "none", "<na>", "#n/a"}
with open(@path@, encoding=@encoding@, newline="") as file:
    again = pd.read_csv(
        file,
        sep=@separator@,
        header=None,
        dtype=str,
        keep_default_na=False,
        engine="python",
        names=range(@columns@),
        index_col=False,
        on_bad_lines=lambda fields: fields[: @columns@],
    ).fillna("").iloc[1:]
"""

_CHECK_SHAPE = """\
assert f"{len(again):,} rows and {again.shape[1]} columns" in ANSWER, again.shape
print(f"pandas' own reader finds {len(again):,} rows and {again.shape[1]} columns")
"""

_CHECK_MISSING = """\
counts = [sum(cell.strip().lower() in MISSING for cell in again[index]) for index in again.columns]
assert f"{sum(counts):,} values are missing" in ANSWER, sum(counts)
saved = pd.read_csv("columns.csv", keep_default_na=False)["missing"].tolist()
assert saved == counts, [pair for pair in zip(saved, counts) if pair[0] != pair[1]]
print(f"{sum(counts):,} missing values were counted again, column by column")
"""

_CHECK_REPEATED = """\
repeated = int(again.duplicated().sum())
assert repeated == @repeated@, repeated
assert (f"{repeated:,} rows repeat" in ANSWER) == (repeated > 0), repeated
print(f"{repeated:,} repeated rows were found again")
"""


def _cell(text: object) -> str:
    """A text for a cell of a Markdown table.

    Content that looks like the name of a file gets an invisible joiner (U+2060) before its ending, because
    names of files in an answer are taken for promises, and checked.
    """
    plain = " ".join(str(text).replace("|", "\\|").split())
    return re.sub(r"\.(?=[A-Za-z])", "\u2060.", plain)


def _prove(figures: Figures) -> ScriptedProof:
    shown = figures["described"]
    rows = "\n".join(
        f"| {_cell(column['name'])} | {column['kind']} | {column['missing']:,} | {column['distinct']:,} "
        f"| {_cell(column['values'])} |"
        for column in shown
    )
    odd = [f"- {_cell(sentence)}" for sentence in figures["odd"]]
    if figures["more_odd"]:
        odd.append(f"- … and {figures['more_odd']} more of the kind.")
    answer = (
        f"`{figures['file']}` has {figures['rows']:,} rows and {figures['columns']} columns; "
        f"{figures['missing']:,} values are missing.\n\n"
        f"| Column | Kind | Missing | Distinct | Range or commonest |\n|---|---|---:|---:|---|\n{rows}\n\n"
        + (f"The first {len(shown)} columns are shown. " if len(shown) < figures["columns"] else "")
        + "All columns are in `columns.csv`.\n\n**Odd:**\n\n"
        + ("\n".join(odd) or "- Nothing that the usual tests find.")
    )
    again = _AGAIN
    for key, value in {
        "path": f"inputs/{figures['file']}",
        "encoding": figures["encoding"],
        "separator": figures["separator"],
        "columns": figures["columns"],
    }.items():
        again = again.replace(f"@{key}@", repr(value))
    return ScriptedProof(
        answer=answer,
        checks=(
            (f"{figures['rows']:,} rows and {figures['columns']} columns", again + _CHECK_SHAPE),
            (f"{figures['missing']:,} missing values, and where", again + _CHECK_MISSING),
            (
                f"{figures['repeated']:,} repeated rows",
                again + _CHECK_REPEATED.replace("@repeated@", repr(figures["repeated"])),
            ),
        ),
    )


DESCRIBE = Scenario(
    title="Describe an upload",
    prompt="Describe the file I uploaded: columns, missing values, and anything odd",
    inputs=("penguins.csv",),
    steps=(
        ScriptedStep(
            id="s1",
            title="Read the upload",
            goal="Find the uploaded table in inputs/ and read it, whatever its separator and encoding.",
            proof="Rows and columns are counted.",
            codes=(ScriptedCode(thought="I read every cell as text, so that nothing is lost.", code=_READ),),
        ),
        ScriptedStep(
            id="s2",
            title="Describe the columns",
            goal="Describe each column of the uploaded table, count what is missing, look for what is odd.",
            proof="columns.csv has a row for each column, and the counts can be made again.",
            depends_on=("s1",),
            codes=(ScriptedCode(thought="The usual tests for mistakes in tables.", code=_DESCRIBE),),
        ),
    ),
    prove=_prove,
)
