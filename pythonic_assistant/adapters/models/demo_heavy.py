"""Demo: a question that is answered with figures."""

from __future__ import annotations

from pythonic_assistant.adapters.models.scripted import (
    Figures,
    Scenario,
    ScriptedCode,
    ScriptedProof,
    ScriptedStep,
)

_SHOWN = 10

_READ = """\
import json
import pandas as pd

penguins = pd.read_csv("inputs/penguins.csv")
penguins["line"] = penguins.index + 2
weighed = penguins.dropna(subset=["body_mass_g"])
print(f"{len(weighed)} of {len(penguins)} penguins were weighed")
print("RESULT " + json.dumps({"weighed": len(weighed)}))
"""

_NORMAL = """\
norms = weighed.groupby("species")["body_mass_g"].agg(["mean", "std"])
print(norms.round(1).to_string())
"""

_FIND = f"""\
compared = weighed.join(norms, on="species")
compared["excess_g"] = compared["body_mass_g"] - compared["mean"]
compared["deviations"] = compared["excess_g"] / compared["std"]
heavy = compared[compared["deviations"] > 2].sort_values("deviations", ascending=False)
columns = ["line", "species", "island", "sex", "body_mass_g", "excess_g", "deviations"]
heavy = heavy[columns].round({{"excess_g": 0, "deviations": 2}})
heavy.to_csv("heavy_penguins.csv", index=False)
print(heavy.to_string(index=False))
shown = json.loads(heavy.head({_SHOWN}).to_json(orient="records"))
counts = {{species: int(count) for species, count in heavy["species"].value_counts().items()}}
most = json.loads(heavy.nlargest(1, "excess_g").to_json(orient="records"))
print("RESULT " + json.dumps({{"heavy": len(heavy), "counts": counts, "most": most, "shown": shown}}))
"""

_RECOUNT = """\
import csv
import statistics
from collections import defaultdict
masses = defaultdict(list)
with open("inputs/penguins.csv", newline="") as file:
    for line, row in enumerate(csv.DictReader(file), start=2):
        if row["body_mass_g"] != "NA":
            masses[row["species"]].append((line, float(row["body_mass_g"])))
heavy = {}
for species, weighed in masses.items():
    mean = statistics.fmean(mass for _, mass in weighed)
    deviation = statistics.stdev(mass for _, mass in weighed)
    for line, mass in weighed:
        if mass > mean + 2 * deviation:
            heavy[line] = (species, mass, mass - mean)
"""

_CHECK_WHICH = (
    _RECOUNT
    + """\
with open("heavy_penguins.csv", newline="") as file:
    saved = {int(row["line"]): row for row in csv.DictReader(file)}
assert set(saved) == set(heavy), set(saved) ^ set(heavy)
assert f"{len(heavy)} of {sum(map(len, masses.values()))} penguins" in ANSWER, len(heavy)
print(f"the same {len(heavy)} penguins were found again")
"""
)

_CHECK_EXCESS = (
    _RECOUNT
    + """\
import re
row = r"^\\| (\\d+) \\| (\\w+) \\| [^|]* \\| [^|]* \\| ([\\d,]+) \\| ([\\d,]+) \\|"
stated = re.findall(row, ANSWER, re.MULTILINE)
assert stated, "no rows in the answer"
for line, species, mass, excess in stated:
    found = heavy[int(line)]
    assert found[0] == species, (line, found)
    assert found[1] == float(mass.replace(",", "")), (line, found)
    assert abs(found[2] - float(excess.replace(",", ""))) <= 0.51, (line, found)
print(f"mass and excess of all {len(stated)} rows of the answer were computed again")
"""
)

_CHECK_HEAVIEST = (
    _RECOUNT
    + """\
species, mass, excess = max(heavy.values(), key=lambda found: found[2])
assert f"{mass:,.0f} g" in ANSWER and f"{excess:,.0f} g more" in ANSWER, (species, mass, excess)
print(f"the greatest excess is {excess:,.0f} g, of a {species} penguin")
"""
)


def _none(figures: Figures) -> ScriptedProof:
    answer = (
        f"0 of {figures['weighed']} penguins are more than two standard deviations above the mean mass of "
        "their species, so none is unusually heavy. `heavy_penguins.csv` is a table without rows."
    )
    return ScriptedProof(answer=answer, checks=(("No penguin is that heavy", _CHECK_WHICH),))


def _prove(figures: Figures) -> ScriptedProof:
    shown = figures["shown"]
    if not figures["heavy"]:
        return _none(figures)
    most = figures["most"][0]
    by_species = ", ".join(f"{count} {species}" for species, count in figures["counts"].items())
    rows = "\n".join(
        f"| {row['line']} | {row['species']} | {row['island']} | {row['sex'] or 'unknown'} "
        f"| {row['body_mass_g']:,.0f} | {row['excess_g']:,.0f} | {row['deviations']:.2f} |"
        for row in shown
    )
    title = f"The first {len(shown)} of them:\n\n" if figures["heavy"] > len(shown) else ""
    answer = (
        f"{figures['heavy']} of {figures['weighed']} penguins are unusually heavy for their species, which "
        f"here means more than two standard deviations above its mean ({by_species}). The greatest "
        f"excess has a {most['species']} penguin of {most['body_mass_g']:,.0f} g: "
        f"{most['excess_g']:,.0f} g more than the mean of its species.\n\n{title}"
        "| Line of file | Species | Island | Sex | Mass (g) | Above mean (g) | Standard deviations |\n"
        f"|---:|---|---|---|---:|---:|---:|\n{rows}\n\nAll are in `heavy_penguins.csv`."
    )
    return ScriptedProof(
        answer=answer,
        checks=(
            (f"{figures['heavy']} penguins, and these, are above two standard deviations", _CHECK_WHICH),
            ("Mass and excess of each row in the answer are right", _CHECK_EXCESS),
            ("The greatest excess is as stated", _CHECK_HEAVIEST),
        ),
    )


HEAVY = Scenario(
    title="A question with figures",
    prompt="Which penguins are unusually heavy for their species, and by how much?",
    inputs=("penguins.csv",),
    steps=(
        ScriptedStep(
            id="s1",
            title="Read the masses",
            goal="Read inputs/penguins.csv and keep the penguins that were weighed.",
            proof="The number of penguins with a body mass is known.",
            codes=(ScriptedCode(thought="I keep the line of each penguin, to name it later.", code=_READ),),
        ),
        ScriptedStep(
            id="s2",
            title="Find what is usual",
            goal="Compute mean and standard deviation of the body mass for each species.",
            proof="There are both figures for each species.",
            depends_on=("s1",),
            codes=(ScriptedCode(thought="What is usual differs by species.", code=_NORMAL),),
        ),
        ScriptedStep(
            id="s3",
            title="Find the heavy ones",
            goal="List the penguins more than two standard deviations above the mean of their species.",
            proof="heavy_penguins.csv holds them, and they can be found again from the raw file.",
            depends_on=("s2",),
            codes=(ScriptedCode(thought="Two standard deviations is a usual mark.", code=_FIND),),
        ),
    ),
    prove=_prove,
)
