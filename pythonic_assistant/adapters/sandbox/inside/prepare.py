"""Makes a fork of the zygote a fresh Python: signals, environment, streams, random numbers, packages."""

from __future__ import annotations

import io
import os
import random
import signal
import sys
from collections.abc import Mapping

ENVIRONMENT = {
    "HOME": "/scratch",
    "LANG": "C.UTF-8",
    "MPLBACKEND": "Agg",
    "MPLCONFIGDIR": os.environ.get("MPLCONFIGDIR", "/tmp/.matplotlib"),  # noqa: S108
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "PYTHONDONTWRITEBYTECODE": "1",
    "TMPDIR": "/tmp",  # noqa: S108
}

PACKAGES = "PYTHONPATH"
"""Where `zygote.use_packages` leaves the folder of additional packages, for processes of the code."""


def prepare(environment: Mapping[str, str], *, own_modules: bool = True) -> None:
    """Set up everything but the random numbers.

    Args:
        environment: variables beside those that every session has, or in their place.
        own_modules: whether modules in the current folder can be imported.
    """
    packages = {name: value for name, value in os.environ.items() if name == PACKAGES}
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGALRM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    os.environ.clear()
    os.environ.update({**ENVIRONMENT, **packages, **environment})
    sys.argv = [""]
    if own_modules:
        sys.path.insert(0, "")  # modules that the code writes into its folder
    sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115, PTH123
    sys.stdout, sys.stderr = _text_stream(1), _text_stream(2)


def seed(seed: int | None) -> None:
    """Seed `random` and numpy. Every session is a copy of one zygote, and would draw the same numbers.

    Args:
        seed: not negative; None for one of the operating system.
    """
    source = random.Random(os.urandom(32) if seed is None else seed)  # noqa: S311  (not for secrets)
    random.seed(source.getrandbits(256))
    if (numpy := sys.modules.get("numpy")) is None:
        return
    numpy.random.seed([source.getrandbits(32) for _ in range(8)])
    if seed is not None:
        # Where default_rng() takes its entropy from when the code gives none.
        numpy.random.bit_generator.randbits = source.getrandbits


def _text_stream(descriptor: int) -> io.TextIOWrapper:
    raw = io.FileIO(descriptor, "w", closefd=False)
    return io.TextIOWrapper(io.BufferedWriter(raw), "utf-8", errors="replace", line_buffering=True)
