"""A session without walls: runs code in this process, with the behaviour that the port promises otherwise.

For code that the tests themselves hold.
"""

from __future__ import annotations

import ast
import copy
import hashlib
import io
import json
import os
import shutil
import sys
import traceback
import types
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pythonic_assistant.domain.errors import SandboxDiedError
from pythonic_assistant.domain.execution import Execution, VariableInfo
from pythonic_assistant.domain.files import ArtifactFile
from pythonic_assistant.domain.limits import SandboxLimits
from pythonic_assistant.domain.variable import SavedVariable, UnsavedVariable
from pythonic_assistant.ports import Access

MEMORY = "The code used more than 1,024 MiB of memory, the limit of a session (memory_bytes)."


class PlainSession:
    """Variables and a folder.

    Code that begins with DIE ends as at a memory limit: in the state before it where there is a checkpoint.
    Code that begins with DIE_HARD takes the whole session along.
    """

    def __init__(
        self,
        folder: Path,
        *,
        seed: int | None = None,
        access: Access | None = None,
        read_only: bool = False,
        names: dict[str, Any] | None = None,
    ) -> None:
        self.folder, self.seed, self.access, self.read_only = folder, seed, access or Access(), read_only
        self.names: dict[str, Any] = {"__name__": "__main__"} | (names or {})
        self.limits = SandboxLimits()
        self.closed = self.dead = False
        self.skipped: tuple[str, ...] = ()
        self.ran: list[str] = []
        self.restored: tuple[str, ...] = ()
        self.forget_checkpoints = False
        # As the sandbox has it: code may import what it wrote, and nothing from a folder that is only shown.
        self.path = list(sys.path) if read_only else ["", *sys.path]
        self._before: dict[str, Any] | None = None

    async def execute(
        self, code: str, *, timeout: float, on_output: Any = None, checkpoint: bool = False
    ) -> Execution:
        self._alive()
        self.ran.append(code)
        self._before = _copied(self.names) if checkpoint and not self.forget_checkpoints else None
        if code.startswith("DIE"):
            back = "HARD" not in code and self._before is not None
            self.dead = not back
            if back:
                await self.rollback()
            return Execution(outcome="died", error=MEMORY, rolled_back=back)
        out, err, place = io.StringIO(), io.StringIO(), Path.cwd()
        there = _files(self.folder)
        os.chdir(self.folder)
        path, sys.path = sys.path, self.path
        try:
            tree = ast.parse(code)
            with redirect_stdout(out), redirect_stderr(err):
                exec(compile(tree, "<step>", "exec"), self.names)
            if self.read_only:
                _put_back(self.folder, there)
        except Exception:  # noqa: BLE001  whatever the code raises is its result
            if on_output and out.getvalue():
                on_output("stdout", out.getvalue())
            return Execution(outcome="error", stdout=out.getvalue(), error=traceback.format_exc())
        finally:
            os.chdir(place)
            self.path, sys.path = sys.path, path
            _forget_modules_of(self.folder)
        if on_output and out.getvalue():
            for piece in out.getvalue().splitlines(keepends=True):
                on_output("stdout", piece)
        return Execution(outcome="ok", stdout=out.getvalue(), stderr=err.getvalue())

    async def rollback(self) -> bool:
        self._alive()
        if self._before is None:
            return False
        self.names.clear()
        self.names.update(self._before)
        self._before = None
        return True

    async def variables(self) -> tuple[VariableInfo, ...]:
        self._alive()
        return tuple(
            VariableInfo(name=name, type=type(value).__name__, summary=repr(value)[:80])
            for name, value in self._public().items()
        )

    async def save(self, into: Path) -> tuple[tuple[SavedVariable, ...], tuple[UnsavedVariable, ...]]:
        self._alive()
        into.mkdir(exist_ok=True)
        saved: list[SavedVariable] = []
        unsaved: list[UnsavedVariable] = []
        for name, value in self._public().items():
            kind = type(value).__name__
            try:
                path, media_type, load = _written(into, name, value)
            except TypeError as error:
                unsaved.append(UnsavedVariable(name=name, type=kind, reason=str(error)))
                continue
            saved.append(
                SavedVariable(
                    name=name,
                    type=kind,
                    shape="",
                    bytes=path.stat().st_size,
                    media_type=media_type,
                    load=load,
                    path=path,
                )
            )
        catalogue = {variable.name: variable.path.name for variable in saved}
        (into / "catalogue.json").write_text(json.dumps(catalogue))
        return tuple(saved), tuple(unsaved)

    async def restore(self) -> tuple[str, ...]:
        self._alive()
        assert not self.ran, "restore is for a session that has run nothing yet"
        place = self.folder / ".variables"
        for name, file in json.loads((place / "catalogue.json").read_text()).items():
            self.names[name] = _read(place / file)
            self.restored += (name,)
        return self.restored

    async def collect(self, into: Path) -> tuple[ArtifactFile, ...]:
        self._alive()
        found: list[ArtifactFile] = []
        for path in sorted(self.folder.iterdir()):
            if path.is_file():
                copy_ = Path(shutil.copy(path, into / path.name))
                found.append(
                    ArtifactFile(
                        name=path.name,
                        path=copy_,
                        media_type="application/octet-stream",
                        bytes=copy_.stat().st_size,
                        sha256=hashlib.sha256(copy_.read_bytes()).hexdigest(),
                    )
                )
        return tuple(found)

    async def close(self) -> None:
        self.closed = True

    def _alive(self) -> None:
        if self.dead or self.closed:
            raise SandboxDiedError("The session is gone.")

    def _public(self) -> dict[str, Any]:
        return {
            name: value
            for name, value in self.names.items()
            if not name.startswith("_") and not isinstance(value, types.ModuleType)
        }


def _copied(names: dict[str, Any]) -> dict[str, Any]:
    """What a fork would keep: values as they are now, not as they will be."""
    kept: dict[str, Any] = {}
    for name, value in names.items():
        try:
            kept[name] = copy.deepcopy(value)
        except TypeError:  # a module, an open file
            kept[name] = value
    return kept


def _forget_modules_of(folder: Path) -> None:
    """Another session is another process, which has not imported them."""
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(f"{folder}/"):
            del sys.modules[name]


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _put_back(folder: Path, there: dict[str, bytes]) -> None:
    if _files(folder) == there:
        return
    for name in _files(folder).keys() - there.keys():
        (folder / name).unlink()
    for name, content in there.items():
        (folder / name).write_bytes(content)
    raise OSError(30, "Read-only file system")


def _written(into: Path, name: str, value: Any) -> tuple[Path, str, str]:
    if isinstance(value, pd.DataFrame):
        value.to_parquet(into / f"{name}.parquet")
        return into / f"{name}.parquet", "application/vnd.apache.parquet", "pd.read_parquet({path!r})"
    if isinstance(value, pd.Series):
        value.to_frame("values").to_parquet(into / f"{name}.series.parquet")
        load = "pd.read_parquet({path!r})['values']"
        return into / f"{name}.series.parquet", "application/vnd.apache.parquet", load
    if isinstance(value, np.ndarray) and value.dtype != object:
        np.save(into / f"{name}.npy", value, allow_pickle=False)
        return into / f"{name}.npy", "application/x-npy", "numpy.load({path!r})"
    text = json.dumps(value)
    if json.loads(text) != value:
        raise TypeError("it does not come back from JSON as it was")
    (into / f"{name}.json").write_text(text)
    return into / f"{name}.json", "application/json", "json.load(open({path!r}))"


def _read(path: Path) -> Any:
    match path.suffix:
        case ".parquet":
            frame = pd.read_parquet(path)
            return frame["values"] if path.name.endswith(".series.parquet") else frame
        case ".npy":
            return np.load(path, allow_pickle=False)
        case _:
            return json.loads(path.read_text())
