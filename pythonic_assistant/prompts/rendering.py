"""Strict rendering of prompt files: an unknown variable is an error, never an empty place."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

_environment = Environment(
    loader=PackageLoader("pythonic_assistant", "prompts"),
    undefined=StrictUndefined,
    autoescape=False,  # noqa: S701  plain text for a model, not a page
    keep_trailing_newline=False,
    trim_blocks=True,
    lstrip_blocks=True,
)


def render(name: str, **values: Any) -> str:
    """Render the prompt file `<name>.md`.

    Raises:
        jinja2.UndefinedError: the file uses a variable that was not given.
    """
    return _environment.get_template(f"{name}.md").render(**values).strip()


def compile_all() -> None:
    """Compile every prompt file, so that the first rendering does not."""
    for name in _environment.list_templates(extensions=["md"]):
        _environment.get_template(name)
