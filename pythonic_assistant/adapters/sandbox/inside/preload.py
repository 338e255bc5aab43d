"""Imports the heavy packages before any session needs them."""

from __future__ import annotations

import importlib
import site
import sys
from collections.abc import Sequence
from pathlib import Path


def import_all(site_packages: Sequence[str], modules: Sequence[str]) -> None:
    """Put the packages on the path and import some of them; no thread may be left behind.

    Args:
        site_packages: folders for `sys.path`. Path files in them are not read: they may name a checkout.
        modules: to import; those that are not installed are left out.

    Raises:
        RuntimeError: an import started threads, which a fork would lose, whatever they hold.
    """
    sys.path[:] = [path for path in sys.path if Path(path).exists()] + list(site_packages)
    site.setquit()
    site.sethelper()
    sys.dont_write_bytecode = True
    importlib.invalidate_caches()
    for name in modules:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not name.startswith(error.name):
                raise
    threads = list(Path("/proc/self/task").iterdir())
    if len(threads) != 1:
        raise RuntimeError(f"the preloaded packages started {len(threads) - 1} threads")
