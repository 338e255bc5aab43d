"""Which files of the running interpreter a session needs to see.

Never a checkout: its `.env` holds keys.
"""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path

_PARTS = ("bin", "lib", "lib64", "pyvenv.cfg")
_SYSTEM = ("/usr", "/bin", "/lib", "/lib64")


def site_packages() -> tuple[str, ...]:
    """Return the folders that installed packages are imported from."""
    paths = sysconfig.get_paths()
    return tuple(dict.fromkeys(paths[name] for name in ("purelib", "platlib") if Path(paths[name]).is_dir()))


def python_paths() -> tuple[str, ...]:
    """Return files and folders of the interpreter and its packages that lie outside of the system's.

    Of a prefix only the parts that belong to Python are named: a virtual environment may have been made
    in the project's own folder.
    """
    paths = sysconfig.get_paths()
    wanted = [str(Path(prefix) / part) for prefix in (sys.base_prefix, sys.prefix) for part in _PARTS]
    wanted += [paths["stdlib"], paths["platstdlib"], *site_packages()]
    found: list[str] = []
    for path in dict.fromkeys(wanted):
        inside_another = any(Path(path).is_relative_to(other) for other in (*_SYSTEM, *found))
        if Path(path).exists() and not inside_another:
            found.append(path)
    return tuple(found)
