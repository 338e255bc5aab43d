"""`make bench`: every benchmark, one after the other."""

from __future__ import annotations

import importlib
import sys

ALL = ("sandbox", "path", "screen")

sys.argv[1:] = []
for name in ALL:
    importlib.import_module(f"benchmarks.{name}").main()
