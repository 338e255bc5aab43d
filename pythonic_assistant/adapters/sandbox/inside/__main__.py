"""Start of a zygote or a box: `python -I -S .../inside/__main__.py <settings as JSON>`.

The package is loaded from this folder alone. Importing it by its full name would pull in the host's side
of the adapter, and would need the project on `sys.path`.
"""

import importlib.util
import json
import os
import pathlib
import sys

_HERE = pathlib.Path(__file__).resolve().parent
_NAME = "_sandbox_inside"
_TIERS = {"namespaces": "zygote", "bwrap": "boxed", "landlock": "bare_zygote", "unsafe": "bare_zygote"}


def main() -> None:
    """Load the package under its inner name and run the zygote, or the box, of a tier."""
    os.umask(0o022)  # what is made here is the root of sessions, whose users are others than this one
    spec = importlib.util.spec_from_file_location(
        _NAME, _HERE / "__init__.py", submodule_search_locations=[str(_HERE)]
    )
    if spec is None or spec.loader is None:
        raise ImportError(f"cannot load {_HERE}")
    package = importlib.util.module_from_spec(spec)
    sys.modules[_NAME] = package
    spec.loader.exec_module(package)
    settings = json.loads(sys.argv[1])
    importlib.import_module(f"{_NAME}.{_TIERS[settings['tier']]}").main(settings)


main()
