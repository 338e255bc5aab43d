"""Find code and JSON in what a model wrote as words."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping
from typing import Any, cast

_THOUGHTS = re.compile(r"\A\s*<think(?:ing)?>.*?</think(?:ing)?>\s*", re.DOTALL | re.IGNORECASE)
_OPENING = re.compile(r"^[ \t]*(`{3,}|~{3,})[ \t]*([\w+.-]*)[^\n`]*$")
_PYTHON = frozenset({"", "py", "python", "python3", "ipython", "py3"})
_INVALID_ESCAPE = re.compile(r'\\(?!["\\/bfnrtu])')


def without_thoughts(text: str) -> str:
    """Drop a leading `<think>…</think>`, which local models write before what they say."""
    return _THOUGHTS.sub("", text, count=1)


def split_code(text: str) -> tuple[str, str | None]:
    """Part a text into its words and its Python.

    Several blocks of Python are joined in their order, because models tend to divide one programme into
    cells. A block in another language stays among the words. A block that is never closed reaches to the
    end. A fence inside of a string of the code does not end the block when the code parses only with it.

    Returns:
        The words, and the code without its fences, or None where there is no block of Python.
    """
    lines = without_thoughts(text).splitlines()
    words: list[str] = []
    blocks: list[str] = []
    at = 0
    while at < len(lines):
        opening = _OPENING.match(lines[at])
        if opening is None:
            words.append(lines[at])
            at += 1
            continue
        end = _closing(lines, at + 1, opening.group(1))
        if opening.group(2).lower() in _PYTHON:
            blocks.append(_dedented(lines[at + 1 : end]))
        else:
            words.extend(lines[at : end + 1])
        at = end + 1
    code = "\n\n".join(block for block in blocks if block.strip())
    return "\n".join(words).strip(), code or None


def bare_code(text: str) -> str:
    """Take the fence off code that was given with one although none was asked for."""
    if text.lstrip().startswith(("```", "~~~")):
        return split_code(text)[1] or text
    return text


def object_in(text: str) -> Mapping[str, Any] | None:
    """Read the JSON object in a text that may have a fence or words around it.

    Returns:
        The object, or None where there is none that can be read.
    """
    plain = without_thoughts(text).strip()
    whole = loads_leniently(plain)
    if isinstance(whole, dict):
        return cast("Mapping[str, Any]", whole)
    decoder = json.JSONDecoder(strict=False)
    best: Mapping[str, Any] | None = None
    longest = 0
    at = plain.find("{")
    while at != -1:
        try:
            found, end = decoder.raw_decode(plain, at)
        except ValueError:
            at = plain.find("{", at + 1)
            continue
        if isinstance(found, dict) and end - at > longest:
            best, longest = cast("Mapping[str, Any]", found), end - at
        at = plain.find("{", end)
    return best


def loads_leniently(text: str) -> object:
    """Read JSON in which line breaks are not escaped, or backslashes are not doubled.

    Returns:
        The value, or None where the text is no JSON even so.
    """
    for candidate in (text, _INVALID_ESCAPE.sub(r"\\\\", text)):
        try:
            return json.loads(candidate, strict=False)
        except ValueError:
            continue
    return None


def _closing(lines: list[str], start: int, fence: str) -> int:
    """The index of the line that closes a block; the number of lines where none does."""
    candidates = [
        index
        for index in range(start, len(lines))
        if (stripped := lines[index].strip()) and set(stripped) == {fence[0]} and len(stripped) >= len(fence)
    ]
    if not candidates:
        return len(lines)
    for end in candidates:
        if _parses("\n".join(lines[start:end])):
            return end
    return candidates[0]


def _parses(code: str) -> bool:
    try:
        ast.parse(code)
    except (SyntaxError, ValueError):
        return False
    return True


def _dedented(lines: list[str]) -> str:
    """Drop the indentation that all lines of a block share, as within a list; strings keep theirs."""
    code = "\n".join(lines)
    if not _parses(code):
        filled = [line for line in lines if line.strip()]
        shared = min((len(line) - len(line.lstrip()) for line in filled), default=0)
        code = "\n".join(line[shared:] for line in lines)
    return code.strip("\n")
