"""Demo: a table of means, saved as CSV and shown in the answer."""

from __future__ import annotations

from pythonic_assistant.adapters.models.scripted import (
    Figures,
    Scenario,
    ScriptedCode,
    ScriptedProof,
    ScriptedStep,
)

_READ = """\
import json
import pandas as pd

penguins = pd.read_csv("inputs/penguins.csv")
known = penguins.dropna(subset=["species", "sex", "body_mass_g"])
print(f"{len(known)} of {len(penguins)} penguins have a species, a sex and a body mass")
print("RESULT " + json.dumps({"penguins": len(penguins), "known": len(known)}))
"""

_TABULATE = """\
table = (
    known.groupby(["species", "sex"], as_index=False)
    .agg(penguins=("body_mass_g", "size"), mean_body_mass_g=("body_mass_g", "mean"))
    .round({"mean_body_mass_g": 1})
)
table.to_csv("mean_body_mass.csv", index=False)
print(table.to_string(index=False))
print("RESULT " + json.dumps({"rows": json.loads(table.to_json(orient="records"))}))
"""

_CHECK_MEANS = """\
import csv
from collections import defaultdict
masses = defaultdict(list)
with open("inputs/penguins.csv", newline="") as file:
    for row in csv.DictReader(file):
        if "NA" not in (row["sex"], row["body_mass_g"]):
            masses[row["species"], row["sex"]].append(float(row["body_mass_g"]))
with open("mean_body_mass.csv", newline="") as file:
    saved = {(row["species"], row["sex"]): row for row in csv.DictReader(file)}
assert set(saved) == set(masses), set(saved) ^ set(masses)
for key, values in masses.items():
    mean = sum(values) / len(values)
    assert int(saved[key]["penguins"]) == len(values), key
    assert abs(float(saved[key]["mean_body_mass_g"]) - mean) <= 0.051, (key, mean)
print(f"{len(saved)} rows of the file agree with sums made again from the raw table")
"""

_CHECK_ANSWER = """\
import csv
with open("mean_body_mass.csv", newline="") as file:
    rows = list(csv.DictReader(file))
for row in rows:
    line = f"| {row['species']} | {row['sex']} | {row['penguins']} | {float(row['mean_body_mass_g']):,.1f} |"
    assert line in ANSWER, line
assert ANSWER.count("| male |") + ANSWER.count("| female |") == len(rows)
print(f"all {len(rows)} rows of mean_body_mass.csv stand in the answer")
"""

_CHECK_COUNT = """\
import csv
with open("inputs/penguins.csv", newline="") as file:
    rows = list(csv.DictReader(file))
known = sum(row["sex"] != "NA" and row["body_mass_g"] != "NA" for row in rows)
assert f"{known} of {len(rows)} penguins" in ANSWER, (known, len(rows))
print(f"{known} of {len(rows)} rows have both")
"""


def _prove(figures: Figures) -> ScriptedProof:
    rows = figures["rows"]
    lines = "\n".join(
        f"| {row['species']} | {row['sex']} | {row['penguins']} | {row['mean_body_mass_g']:,.1f} |"
        for row in rows
    )
    heaviest = max(rows, key=lambda row: row["mean_body_mass_g"])
    answer = (
        f"| Species | Sex | Penguins | Mean body mass (g) |\n|---|---|---:|---:|\n{lines}\n\n"
        f"The heaviest group are {heaviest['sex']} {heaviest['species']} penguins. The means are of "
        f"{figures['known']} of {figures['penguins']} penguins; the others lack a sex or a body mass. "
        "The table is saved as `mean_body_mass.csv`."
    )
    return ScriptedProof(
        answer=answer,
        checks=(
            ("The saved means are those of the raw table", _CHECK_MEANS),
            ("The table of the answer is the saved one", _CHECK_ANSWER),
            (f"{figures['known']} penguins have a sex and a body mass", _CHECK_COUNT),
        ),
    )


TABLE = Scenario(
    title="Table of means",
    prompt="Make a table of the mean body mass by species and sex, and save it as CSV",
    inputs=("penguins.csv",),
    steps=(
        ScriptedStep(
            id="s1",
            title="Read and clean",
            goal="Read inputs/penguins.csv and keep the penguins whose sex and body mass are known.",
            proof="The number of rows that are kept and of those that are not is known.",
            codes=(ScriptedCode(thought="Rows without sex or mass cannot be grouped.", code=_READ),),
        ),
        ScriptedStep(
            id="s2",
            title="Make the table",
            goal="Compute the mean body mass by species and sex, and save it as mean_body_mass.csv.",
            proof="The means can be computed again from the raw file.",
            depends_on=("s1",),
            codes=(ScriptedCode(thought="One row for each species and sex.", code=_TABULATE),),
        ),
    ),
    prove=_prove,
)
