"""What a person is shown before they decide: the whole of an action, as sections of plain text.

Previews come from workers as JSON of four forms, see docs/approvals.md. Whatever is in one becomes text here,
every character of it visible; nothing is left out, and nothing is taken for Markdown, HTML or a terminal's
commands.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, cast

from pythonic_assistant.domain.visible import strange_letters, visible

_ADDRESSES: Final = frozenset(
    {"to", "cc", "bcc", "recipient", "recipients", "from", "reply_to", "host", "url", "address", "email"}
)
_SHORT: Final = 200  # characters of what stands beside its label


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A part of a preview.

    Attributes:
        text: all of it; visible.
        kind: of one line; a block that keeps its lines; rows before and after as a diff.
        note: what there is to know about the text, "" for nothing.
        warning: what in it may deceive, "" for nothing.
    """

    label: str
    text: str
    kind: Literal["line", "block", "diff"] = "block"
    note: str = ""
    warning: str = ""


def sections(preview: Mapping[str, Any]) -> tuple[Section, ...]:
    """Read a preview; one of an unknown form is shown as the JSON that it is."""
    match preview.get("form"):
        case "question":
            return ()
        case "fields" if isinstance(preview.get("fields"), list):
            return tuple(_field(item) for item in cast("list[Any]", preview["fields"]))
        case "rows" if isinstance(preview.get("rows"), list):
            return (_rows(preview, cast("list[Any]", preview["rows"])),)
        case "request" if preview.get("url") is not None:
            return _request(preview)
        case _:
            return (Section(label="What would be done", text=_json(dict(preview))),) if preview else ()


def of_request(kind: str, name: str, request: Mapping[str, Any]) -> tuple[Section, ...]:
    """Read what the ledger has of an action: a request, or a tool's arguments."""
    if kind == "request":
        return sections({"form": "request", **request})
    arguments = request.get("arguments", request)
    if not isinstance(arguments, Mapping):
        return (Section(label=visible(name, line=True), text=_json(arguments)),)
    named = cast("Mapping[str, Any]", arguments)
    return tuple(_field({"name": key, "value": value}) for key, value in named.items())


def value_text(value: Any) -> str:
    """Write any JSON value so that all of it can be read."""
    return visible(value) if isinstance(value, str) else _json(value)


def indented(text: str) -> str:
    """Break a JSON text into lines, every character but the blanks between its parts kept as it is.

    Not by reading and writing it, which would hide that a key is there twice, or a number's last digits.
    """
    shown: list[str] = []
    depth, quoted, escaped = 0, False, False
    for place, one in enumerate(text):
        if quoted:
            shown.append(one)
            quoted, escaped = escaped or one != '"', one == "\\" and not escaped
        elif one in " \t\r\n":
            continue
        elif one in "{[":
            depth += 1
            empty = text[place + 1 :].lstrip()[:1] in ("}", "]")
            shown.append(one if empty else one + "\n" + "  " * depth)
        elif one in "}]":
            depth -= 1
            shown.append(one if shown[-1] in ("{", "[") else "\n" + "  " * depth + one)
        elif one == ",":
            shown.append(",\n" + "  " * depth)
        else:
            shown.append(": " if one == ":" else one)
            quoted = one == '"'
    return "".join(shown)


def _field(item: Any) -> Section:
    if not isinstance(item, Mapping):
        return Section(label="", text=value_text(item))
    field = cast("Mapping[str, Any]", item)
    name, value = str(field.get("name", "")), field.get("value")
    text = value_text(value)
    brief = len(text) <= _SHORT and "\n" not in text and not (isinstance(value, str) and not text.strip())
    return Section(
        label=visible(name, line=True),
        text=text,
        kind="line" if brief else "block",
        note="" if brief else _length(text),
        warning=_deceiving(name, value),
    )


def _deceiving(name: str, value: Any) -> str:
    """Letters of other alphabets, in what looks like an address."""
    text = json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else value
    strange = strange_letters(text) if name.lower() in _ADDRESSES or _is_address(text) else ()
    if not strange:
        return ""
    return "Look closely, these letters are not plain English ones: " + ", ".join(strange[:20])


def _is_address(text: str) -> bool:
    return len(text) <= _SHORT and "@" in text and " " not in text


def _rows(preview: Mapping[str, Any], rows: Sequence[Any]) -> Section:
    lines: list[str] = []
    for number, item in enumerate(rows, start=1):
        row = cast("Mapping[str, Any]", item) if isinstance(item, Mapping) else {"after": item}
        before, after = row.get("before"), row.get("after")
        what = "added" if before is None else "deleted" if after is None else "changed"
        lines += [f"@@ row {number} of {len(rows)}, {what} @@", *_difference(before, after), ""]
    more = preview.get("more")
    note = f"{len(rows):,} rows" if len(rows) != 1 else "1 row"
    if isinstance(more, int) and more > 0:
        note += f", and {more:,} more that are not shown"
    table = preview.get("table")
    label = f"Rows of {visible(str(table), line=True)}" if table else "Rows"
    return Section(label=label, text="\n".join(lines).rstrip("\n"), kind="diff", note=note)


def _difference(before: Any, after: Any) -> list[str]:
    """Lines of a diff. Values are JSON, so that none can pass for a line of its own."""
    if not (isinstance(before, Mapping) or before is None) or not (
        isinstance(after, Mapping) or after is None
    ):
        return [f"- {_one_line(before)}", f"+ {_one_line(after)}"]
    old = cast("Mapping[str, Any]", before or {})
    new = cast("Mapping[str, Any]", after or {})
    lines: list[str] = []
    for name in dict.fromkeys((*old, *new)):
        label = visible(str(name), line=True)
        if name in old and name in new and old[name] == new[name]:
            lines.append(f"  {label}: {_one_line(old[name])}")
            continue
        if name in old:
            lines.append(f"- {label}: {_one_line(old[name])}")
        if name in new:
            lines.append(f"+ {label}: {_one_line(new[name])}")
    return lines


def _request(preview: Mapping[str, Any]) -> tuple[Section, ...]:
    url = str(preview["url"])
    method = visible(str(preview.get("method") or "?"), line=True)
    made = [
        Section(
            label="Request",
            text=f"{method} {visible(url, line=True)}",
            warning=_deceiving("url", url),
        )
    ]
    headers = preview.get("headers")
    listed = cast("list[Any]", headers) if isinstance(headers, list) else []
    if listed:
        made.append(Section(label="Headers", text="\n".join(_header(item) for item in listed)))
    elif headers:
        made.append(Section(label="Headers", text=value_text(headers)))
    body = preview.get("body")
    note = visible(str(preview.get("body_note") or ""), line=True)
    if isinstance(body, str) and body.strip() and _is_json(body):
        told = "JSON, broken into lines for reading" + (f". {note}" if note else "")
        made.append(Section(label="Body", text=visible(indented(body)), note=told))
    elif body not in (None, ""):
        text = value_text(body)
        made.append(Section(label="Body", text=text, note=note or _length(text)))
    elif note:
        made.append(Section(label="Body", text=note, kind="line"))
    else:
        made.append(Section(label="Body", text="(empty)", kind="line"))
    return tuple(made)


def _header(item: Any) -> str:
    if isinstance(item, Mapping):
        header = cast("Mapping[str, Any]", item)
        return (
            f"{visible(str(header.get('name')), line=True)}: {visible(str(header.get('value')), line=True)}"
        )
    return _one_line(item)


def _is_json(text: str) -> bool:
    if text.lstrip()[:1] not in ("{", "["):
        return False
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _json(value: Any) -> str:
    return visible(json.dumps(value, ensure_ascii=False, indent=2))


def _one_line(value: Any) -> str:
    return visible(json.dumps(value, ensure_ascii=False), line=True)


def _length(text: str) -> str:
    lines = text.count("\n") + 1
    return f"{len(text):,} characters" + (f" in {lines:,} lines" if lines > 1 else "")
