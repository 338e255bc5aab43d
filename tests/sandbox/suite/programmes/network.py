"""Hosts that were granted, by libraries of every day."""

from __future__ import annotations

from tests.sandbox.suite.attack import BOXED
from tests.sandbox.suite.programmes.programme import Programme


def _online(name: str, code: str, value: str, *needs: str) -> Programme:
    return Programme(name=name, code=code, value=value, needs=needs, tiers=BOXED, online=True)


PROGRAMMES = (
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
