"""What a run leaves: files for the person, variables for the next tasks of the thread."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Final

from pythonic_assistant.agent.check_room import VARIABLES
from pythonic_assistant.agent.dialogue import Dialogue
from pythonic_assistant.agent.workspace import Workspace
from pythonic_assistant.domain.event import ArtifactSaved, Noted, VariableSaved

CODE: Final = frozenset({"function", "type", "module", "builtin_function_or_method", "method"})
"""Types of variables that hold code: nobody expects them to be kept as values."""
_MOST_NAMED: Final = 5


async def hand_over_files(dialogue: Dialogue, workspace: Workspace, outbox: Path) -> None:
    """Copy the files of the session into the outbox and tell of each."""
    artifacts, skipped = await workspace.collect(outbox)
    for artifact in artifacts:
        dialogue.emit(
            ArtifactSaved(
                name=artifact.name,
                path=str(artifact.path),
                media_type=artifact.media_type,
                bytes=artifact.bytes,
                sha256=artifact.sha256,
            )
        )
    for sentence in skipped:
        dialogue.emit(Noted(text=sentence, level="warning"))


async def hand_over_variables(dialogue: Dialogue, workspace: Workspace, outbox: Path) -> None:
    """Save the variables below the outbox, tell of each, and once of those that could not be saved."""
    folder = outbox / VARIABLES
    # An outbox that serves many runs may hold those of the last one.
    await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
    saved, unsaved = await workspace.save(folder)
    for variable in saved:
        dialogue.emit(
            VariableSaved(
                name=variable.name,
                type=variable.type,
                shape=variable.shape,
                bytes=variable.bytes,
                media_type=variable.media_type,
                load=variable.load,
                path=str(variable.path),
            )
        )
    missed = [item for item in unsaved if item.type not in CODE]
    if missed:
        named = ", ".join(f"{item.name} ({item.type}: {item.reason})" for item in missed[:_MOST_NAMED])
        more = f" and {len(missed) - _MOST_NAMED} more" if len(missed) > _MOST_NAMED else ""
        dialogue.emit(Noted(text=f"Not kept for later tasks: {named}{more}."[:1_000]))
