"""Text for the model from what came of code: short, the beginning and the end kept."""

from __future__ import annotations

from collections.abc import Sequence

from pythonic_assistant.domain.execution import Execution, VariableInfo

OUTPUT_CHARACTERS = 8_000
"""About 2,000 tokens: enough for a table of some dozen lines, small enough for five fixes in one context."""


def cut(text: str, most: int = OUTPUT_CHARACTERS) -> str:
    """Shorten a text to `most` characters, with the beginning and the end kept and the gap named."""
    if len(text) <= most:
        return text
    half = most // 2
    return f"{text[:half]}\n… {len(text) - 2 * half:,} characters left out …\n{text[-half:]}"


def output_of(execution: Execution) -> str:
    """Stdout, stderr and the value of the last expression as one text."""
    parts = [execution.stdout.rstrip("\n")]
    if execution.stderr.strip():
        parts.append(f"[stderr]\n{execution.stderr.rstrip()}")
    if execution.value:
        parts.append(f"[value]\n{execution.value}")
    return cut("\n".join(part for part in parts if part))


def table_of(variables: Sequence[VariableInfo], most: int = 40) -> str:
    """One line for each variable."""
    lines = [f"{v.name}: {v.type} = {cut(v.summary, 400)}" for v in variables[:most]]
    if len(variables) > most:
        lines.append(f"… and {len(variables) - most} more")
    return "\n".join(lines) or "(none)"
