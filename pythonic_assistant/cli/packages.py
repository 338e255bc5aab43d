"""`pythonic sandbox packages`: additional packages for generated code, installed outside of the sandbox.

They are wheels only, because building from source would run foreign code on the host. Before they take the
place of what is there, each is imported inside of a session.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from rich.console import Console

from pythonic_assistant.adapters.sandbox import SandboxOptions, open_sandbox
from pythonic_assistant.adapters.sandbox.packages import PackageFolder
from pythonic_assistant.adapters.sandbox.wheels import install, modules, normalized, requirement
from pythonic_assistant.domain.errors import ConfigurationError, InvalidInputError
from pythonic_assistant.settings import Settings

_IMPORT_SECONDS = 60.0
_CHECK = """
import importlib, json
failed = []
for distribution, names in json.loads({given!r}).items():
    for name in names:
        try:
            importlib.import_module(name)
        except BaseException as error:
            failed.append(f"{{name}} of {{distribution}}: {{type(error).__name__}}: {{error}}"[:300])
print(json.dumps(failed))
"""


async def packages(settings: Settings, action: str, names: Sequence[str]) -> int:
    """List, add or remove packages; returns the exit code.

    Raises:
        InvalidInputError: a name is none.
        ConfigurationError: pip or the check failed; nothing was changed then.
        SandboxUnavailableError: there is no sandbox to check the packages in.
    """
    folder = PackageFolder(settings.home / "packages")
    console = Console(highlight=False, markup=False, soft_wrap=True)
    if action == "list":
        _list(folder, console)
        return 0
    asked = dict(requirement(name) for name in names)
    with folder.alone():
        present = dict(requirement(line) for line in folder.wanted())
        if action == "add":
            wanted = present | asked
        else:
            for name in asked:
                if name not in present:
                    raise InvalidInputError(_absent(name, present))
            wanted = {name: line for name, line in present.items() if name not in asked}
        await _replace(folder, settings, sorted(wanted.values()), console)
    return 0


def _list(folder: PackageFolder, console: Console) -> None:
    wanted = folder.wanted()
    if not wanted:
        console.print("No additional packages. Add one with: pythonic sandbox packages add NAME")
    installed = modules(folder.path / "current") if wanted else {}
    by_name = {normalized(line.partition("==")[0]): line for line in installed}
    for line in wanted:
        name, _ = requirement(line)
        found = by_name.get(name)
        if found is None:
            console.print(f"{line}  (part of this installation)")
        else:
            console.print(f"{line}  ({found}, imports as {', '.join(installed[found]) or 'nothing'})")


def _absent(name: str, present: dict[str, str]) -> str:
    there = f"there are {', '.join(sorted(present))}" if present else "there is none"
    return f"{name!r} is not among the additional packages of the sandbox: {there}."


async def _replace(
    folder: PackageFolder, settings: Settings, wanted: Sequence[str], console: Console
) -> None:
    with folder.stage() as stage:
        if wanted:
            installed = await install(wanted, stage / "current")
            folder.open_to_all(stage)
            await _ensure_importable(stage, settings)
            what = ", ".join(installed) or "nothing that is not part of this installation"
            console.print(f"Installed and imported in the sandbox: {what}.")
        folder.switch(stage, wanted)
    console.print("New sessions have it from now on." if wanted else "No additional packages are left.")


async def _ensure_importable(stage: Path, settings: Settings) -> None:
    """Import every module of a stage in a session of its own.

    Raises:
        ConfigurationError: one cannot be imported.
    """
    given = json.dumps(modules(stage / "current"))
    options = SandboxOptions(limits=settings.limits, packages=stage, warm=0)
    async with (
        open_sandbox(wanted=settings.sandbox, options=options) as sandbox,
        await sandbox.open(limits=settings.limits) as session,
    ):
        result = await session.execute(_CHECK.format(given=given), timeout=_IMPORT_SECONDS)
    problem = result.error.strip().rpartition("\n")[2]
    if result.outcome == "ok":
        # What the packages print themselves comes before.
        failed: object = json.loads(result.stdout.strip().rpartition("\n")[2])
        problem = "; ".join(str(entry) for entry in cast("list[object]", failed))
    if problem:
        raise ConfigurationError(
            f"Nothing was changed, because the sandbox cannot import what was installed: {problem}"
        )
