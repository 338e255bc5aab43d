"""A script for the README's question about the AWS bill. It knows no figure but reads them."""

from __future__ import annotations

import json
import re
import textwrap

from tests.servers.script import Answer, Code, Data, Heard, Words

PROMPT = "My AWS bill for November, by service"
HOST = "ce.us-east-1.amazonaws.com"
COSTS = {
    "Amazon Elastic Compute Cloud": "412.38",
    "Amazon Simple Storage Service": "58.07",
    "AWS Lambda": "3.9",
}
RESULTS = [
    {
        "ResultsByTime": [
            {
                "TimePeriod": {"Start": "2026-11-01", "End": "2026-12-01"},
                "Total": {},
                "Groups": [
                    {"Keys": [service], "Metrics": {"UnblendedCost": {"Amount": amount, "Unit": "USD"}}}
                    for service, amount in COSTS.items()
                ],
                "Estimated": False,
            }
        ],
        "DimensionValueAttributes": [],
    }
]
"""What Cost Explorer answers: https://docs.aws.amazon.com/aws-cost-management/latest/APIReference/API_GetCostAndUsage.html"""

_RESULT = re.compile(r"^RESULT (\{.*\})\s*$", re.MULTILINE)
_CODE = """\
import json, os
import boto3
import pandas as pd

print("the key that code sees:", os.environ["AWS_SECRET_ACCESS_KEY"])
answer = boto3.client("ce", region_name="us-east-1").get_cost_and_usage(
    TimePeriod={"Start": "2026-11-01", "End": "2026-12-01"},
    Granularity="MONTHLY",
    Metrics=["UnblendedCost"],
    GroupBy=[{"Type": "DIMENSION", "Key": "SERVICE"}],
)
(month,) = answer["ResultsByTime"]
bill = pd.DataFrame(
    [(g["Keys"][0], float(g["Metrics"]["UnblendedCost"]["Amount"])) for g in month["Groups"]],
    columns=["service", "usd"],
).sort_values("usd", ascending=False)
bill.to_csv("aws_bill_november.csv", index=False)
print("RESULT " + json.dumps({"total": round(bill["usd"].sum(), 2), "first": bill["service"].iloc[0]}))
"""


def script(heard: Heard) -> Answer:
    """Answer a request.

    Raises:
        LookupError: the conversation is not about `PROMPT`.
    """
    if heard.wants == "text":
        return Words(text="ready")
    if PROMPT not in heard.everything:
        raise LookupError("the task is not the one about the bill")
    if heard.wants == "code":
        return Code(words="The costs of November by service.", code=_CODE)
    if "checks" in (heard.schema or {}).get("properties", {}):
        found = _RESULT.findall(heard.everything)
        if not found:
            raise LookupError("no code has printed a result yet")
        figures = json.loads(found[-1])
        return Data(
            data={
                "answer": f"November cost **{figures['total']:.2f} USD**, most of it for {figures['first']}. "
                "The table is in `aws_bill_november.csv`.",
                "checks": [
                    {
                        "claim": f"The services add up to {figures['total']:.2f} USD",
                        "code": textwrap.dedent(
                            f"""\
                            import csv
                            with open("aws_bill_november.csv", newline="") as file:
                                rows = list(csv.DictReader(file))
                            total = sum(float(row["usd"]) for row in rows)
                            assert abs(total - {figures["total"]!r}) < 0.005, total
                            first = max(rows, key=lambda row: float(row["usd"]))["service"]
                            assert first == {figures["first"]!r}, first
                            """
                        ),
                    }
                ],
            }
        )
    return Data(
        data={
            "steps": [
                {
                    "id": "s1",
                    "title": "Get the costs",
                    "goal": "Get the costs of November by service from Cost Explorer.",
                    "proof": "The services add up to the total.",
                    "depends_on": [],
                }
            ]
        }
    )
