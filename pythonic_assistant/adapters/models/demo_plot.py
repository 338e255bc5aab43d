"""Demo: a plot with trend lines, whose first code has a mistake that the second mends."""

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
print(f"{len(penguins)} penguins, {penguins['species'].nunique()} species")
print("RESULT " + json.dumps({"penguins": len(penguins)}))
"""

_DRAW = """\
import matplotlib.pyplot as plt
import numpy as np

measured = penguins.dropna(subset=["@flipper@", "@mass@"])
figure, axes = plt.subplots(figsize=(8, 5.5))
trends = []
for species, group in measured.groupby("species"):
    x, y = group["@flipper@"], group["@mass@"]
    slope, intercept = np.polyfit(x, y, 1)
    points = axes.scatter(x, y, s=18, alpha=0.6, label=species)
    ends = np.array([x.min(), x.max()])
    axes.plot(ends, slope * ends + intercept, color=points.get_facecolor()[0][:3], linewidth=2)
    trends.append({"species": species, "penguins": len(group), "slope": round(float(slope), 2)})
axes.set_xlabel("Flipper length (mm)")
axes.set_ylabel("Body mass (g)")
axes.legend(title="Species")
axes.grid(alpha=0.25)
figure.tight_layout()
figure.savefig("plot.png", dpi=150)
plt.close(figure)
print(f"plot.png shows {len(measured)} penguins")
print("RESULT " + json.dumps({"drawn": len(measured), "trends": trends}))
"""

_RECOUNT = """\
import csv
from collections import defaultdict
groups = defaultdict(list)
with open("inputs/penguins.csv", newline="") as file:
    for row in csv.DictReader(file):
        if "NA" not in (row["flipper_length_mm"], row["body_mass_g"]):
            groups[row["species"]].append((float(row["flipper_length_mm"]), float(row["body_mass_g"])))
"""

_CHECK_SLOPES = (
    _RECOUNT
    + """\
for species, pairs in groups.items():
    mean_x = sum(x for x, _ in pairs) / len(pairs)
    mean_y = sum(y for _, y in pairs) / len(pairs)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in pairs) / sum((x - mean_x) ** 2 for x, _ in pairs)
    assert f"| {species} | {len(pairs)} | {slope:.2f} |" in ANSWER, (species, len(pairs), slope)
    print(f"{species}: {slope:.2f} g per mm from {len(pairs)} penguins, by the formula of least squares")
"""
)

_CHECK_COUNT = (
    _RECOUNT
    + """\
drawn = sum(len(pairs) for pairs in groups.values())
assert f"{drawn} penguins" in ANSWER, drawn
print(f"{drawn} rows have both measurements")
"""
)

_CHECK_PLOT = """\
import matplotlib.image
picture = matplotlib.image.imread("plot.png")
height, width = picture.shape[:2]
colours = len({tuple(pixel) for pixel in picture[::4, ::4, :3].reshape(-1, 3).round(2).tolist()})
assert width >= 800 and height >= 500, (width, height)
assert colours > 10, colours
print(f"plot.png is {width} x {height} pixels with {colours} colours or more")
"""


def _prove(figures: Figures) -> ScriptedProof:
    drawn, left_out = figures["drawn"], figures["penguins"] - figures["drawn"]
    trends = figures["trends"]
    steepest = max(trends, key=lambda trend: abs(trend["slope"]))
    rising = [trend["species"] for trend in trends if trend["slope"] > 0]
    where = "each species" if len(rising) == len(trends) else ", ".join(rising) or "no species"
    direction = f"Longer flippers go with more mass in {where}"
    rows = "\n".join(f"| {t['species']} | {t['penguins']} | {t['slope']:.2f} |" for t in trends)
    answer = (
        f"`plot.png` shows flipper length against body mass for {drawn} penguins, with a trend line for each "
        f"species ({left_out} without both measurements are left out). {direction}; "
        f"the steepest trend is that of {steepest['species']}.\n\n"
        f"| Species | Penguins | Trend (g per mm) |\n|---|---:|---:|\n{rows}"
    )
    return ScriptedProof(
        answer=answer,
        checks=(
            ("The slopes of the trend lines are those of least squares", _CHECK_SLOPES),
            (f"The plot holds all {drawn} penguins with both measurements", _CHECK_COUNT),
            ("plot.png is a picture with something on it", _CHECK_PLOT),
        ),
    )


PLOT = Scenario(
    title="Plot with trend lines",
    prompt="Plot flipper length against body mass by species, with a trend line for each",
    inputs=("penguins.csv",),
    steps=(
        ScriptedStep(
            id="s1",
            title="Read the measurements",
            goal="Read inputs/penguins.csv for the plot.",
            proof="The table has rows for each species.",
            codes=(ScriptedCode(thought="I read the table first.", code=_READ),),
        ),
        ScriptedStep(
            id="s2",
            title="Draw the plot",
            goal="Draw flipper length against body mass with a fitted line for each species, as plot.png.",
            proof="plot.png exists and the fitted slopes can be computed again from the file.",
            depends_on=("s1",),
            codes=(
                ScriptedCode(
                    thought="One scatter and one fitted line for each species.",
                    code=_DRAW.replace("@flipper@", "flipper_length").replace("@mass@", "body_mass"),
                ),
                ScriptedCode(
                    thought="The columns carry their units: flipper_length_mm and body_mass_g.",
                    code=_DRAW.replace("@flipper@", "flipper_length_mm").replace("@mass@", "body_mass_g"),
                ),
            ),
        ),
    ),
    prove=_prove,
)
