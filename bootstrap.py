"""Sets the project up in its own folder and runs a command in it: `python3 bootstrap.py run`.

Needs a Python of version 3.11 or later and nothing else. This file is kept to what Python 3.6 can read, so
that an old Python is told what is wrong instead of failing to parse; the work is in `installation/`.
"""

import sys

NEEDED_PYTHON = (3, 11)
if sys.version_info < NEEDED_PYTHON:
    sys.exit(
        "Python {}.{} or later is needed, and this is {}.{}: install a newer one and use it, for example "
        "`make run PYTHON=python3.12`.".format(*(NEEDED_PYTHON + tuple(sys.version_info[:2])))
    )
if sys.platform == "win32":
    sys.exit("This system is not supported: use Linux or macOS; on Windows, use WSL.")

from installation.causes import SetupError, explain
from installation.commands import main

if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except SetupError as problem:
        sys.stderr.write("\n{}\n".format(problem))
        sys.exit(1)
    except KeyboardInterrupt:
        sys.stderr.write("\nInterrupted; the next start goes on from here.\n")
        sys.exit(130)
    except OSError as problem:
        sys.stderr.write("\n{}\n".format(explain(str(problem))))
        sys.exit(1)
