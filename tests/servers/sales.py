"""A script that is none of the demo's: a question about an uploaded table of sales.

Nothing in it knows the answer. The name of the file, the failure to be mended and the figures of the answer
are all read from the requests.
"""

from __future__ import annotations

import json
import re
import textwrap

from tests.servers.script import Answer, Code, Data, Heard, Words

PROMPT = "Which region sold most in 2025, and by how much?"
FILE_NAME = "sales.csv"
CSV = """\
date,region,product,amount
2024-11-30,North,Tea,900.00
2024-12-31,South,Coffee,5000.00
2025-01-15,North,Tea,1200.50
2025-02-03,South,Coffee,980.25
2025-03-20,East,Tea,1500.00
2025-05-11,North,Coffee,760.75
2025-07-09,East,Coffee,210.40
2025-08-28,South,Tea,1340.10
2025-10-02,North,Tea,300.00
2025-12-24,East,Tea,420.60
2026-01-02,South,Coffee,2500.00
"""
"""In 2025 North has 2261.25, South 2320.35 and East 2131.00: South leads by 59.10."""

_FILE = re.compile(r"inputs/([\w.-]+\.csv)")
_RESULT = re.compile(r"^RESULT (\{.*\})\s*$", re.MULTILINE)
_READ_GOAL = "Read the sales of 2025 from the uploaded file."
_SUM_GOAL = "Add the sales of 2025 up by region and find the lead of the first over the second."


def script(heard: Heard) -> Answer:
    """Answer a request.

    Raises:
        LookupError: the conversation is not about `PROMPT`, or lacks what the next answer needs.
    """
    if heard.wants == "text":
        return Words(text="ready")
    if PROMPT not in heard.everything:
        raise LookupError("the task is not the one about sales")
    name = _FILE.search(heard.everything)
    if name is None:
        raise LookupError("no uploaded CSV is named")
    path = f"inputs/{name.group(1)}"
    if heard.wants == "code":
        return _code(heard, path)
    if _asks_for_checks(heard):
        return _verification(heard, path)
    return Data(
        data={
            "steps": [
                {
                    "id": "s1",
                    "title": "Read the sales",
                    "goal": _READ_GOAL,
                    "proof": "Only rows of 2025 are kept, and there are some.",
                    "depends_on": [],
                },
                {
                    "id": "s2",
                    "title": "Compare the regions",
                    "goal": _SUM_GOAL,
                    "proof": "The totals of the regions add up to the total of the year.",
                    "depends_on": ["s1"],
                },
            ]
        }
    )


def _code(heard: Heard, path: str) -> Answer:
    wanted = max(_READ_GOAL, _SUM_GOAL, key=lambda goal: heard.everything.rfind(goal))
    if wanted not in heard.everything:
        raise LookupError("no step of this plan is asked for")
    if wanted == _SUM_GOAL:
        return Code(
            words="The totals by region.",
            code=textwrap.dedent(
                """\
                import json
                totals = of_2025.groupby("region")["amount"].sum().sort_values(ascending=False)
                totals.rename("total").to_csv("regions_2025.csv")
                figures = {
                    "region": totals.index[0],
                    "total": round(float(totals.iloc[0]), 2),
                    "second": totals.index[1],
                    "lead": round(float(totals.iloc[0] - totals.iloc[1]), 2),
                }
                print("RESULT " + json.dumps(figures))"""
            ),
        )
    if "AttributeError" in heard.last:
        return Code(
            words="The dates were read as text; they have to be parsed.",
            code=textwrap.dedent(
                f"""\
                import pandas as pd
                sales = pd.read_csv({path!r}, parse_dates=["date"])
                of_2025 = sales[sales["date"].dt.year == 2025]
                print(len(of_2025), "of", len(sales), "rows are of 2025")"""
            ),
        )
    return Code(
        words="The rows of 2025.",
        code=textwrap.dedent(
            f"""\
            import pandas as pd
            sales = pd.read_csv({path!r})
            of_2025 = sales[sales["date"].dt.year == 2025]
            print(len(of_2025), "of", len(sales), "rows are of 2025")"""
        ),
    )


def _asks_for_checks(heard: Heard) -> bool:
    return "checks" in (heard.schema or {}).get("properties", {}) or (
        heard.schema is None and '"checks"' in heard.last
    )


def _verification(heard: Heard, path: str) -> Answer:
    found = _RESULT.findall(heard.everything)
    if not found:
        raise LookupError("no code has printed a result yet")
    figures = json.loads(found[-1])
    answer = (
        f"**{figures['region']}** sold most in 2025: {figures['total']:.2f}, which is {figures['lead']:.2f} "
        f"more than {figures['second']}. The totals are in `regions_2025.csv`."
    )
    recount = textwrap.dedent(
        f"""\
        import csv
        from collections import defaultdict
        totals = defaultdict(float)
        with open({path!r}, newline="") as file:
            for row in csv.DictReader(file):
                if row["date"].startswith("2025-"):
                    totals[row["region"]] += float(row["amount"])
        first, second = sorted(totals, key=totals.get, reverse=True)[:2]
        """
    )
    return Data(
        data={
            "answer": answer,
            "checks": [
                {
                    "claim": f"{figures['region']} sold most in 2025, {figures['total']:.2f}",
                    "code": recount
                    + f"assert first == {figures['region']!r}, first\n"
                    + f"assert abs(totals[first] - {figures['total']!r}) < 0.005, totals\n",
                },
                {
                    "claim": f"The lead over {figures['second']} is {figures['lead']:.2f}",
                    "code": recount
                    + f"assert second == {figures['second']!r}, second\n"
                    + f"assert abs(totals[first] - totals[second] - {figures['lead']!r}) < 0.005, totals\n",
                },
            ],
        }
    )
