"""Numbers, states and untrusted text in the words and forms that people read."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Final

from live.rows import TaskRow
from pythonic_assistant.domain.decision import Approval
from pythonic_assistant.domain.errors import AssistantError, StoreUnavailableError
from pythonic_assistant.domain.visible import visible

STATE_WORDS: Final = {
    "scheduled": "Scheduled",
    "held": "Held",
    "queued": "Queued",
    "running": "Running",
    "waiting": "Waits for you",
    "succeeded": "Done",
    "failed": "Failed",
    "cancelled": "Cancelled",
}
UNSAFE: Final = "unsafe"
"""The tier without walls, which an operator has to ask for by this word."""
UNAVAILABLE: Final = "unavailable"
"""What a worker says of its sandbox that cannot isolate code: it takes no task."""
ISOLATION_WORDS: Final = {
    "namespaces": "Isolated by Linux namespaces",
    "bwrap": "Isolated by bubblewrap",
    "landlock": "Isolated by Landlock and seccomp",
    UNSAFE: "Not isolated: no sandbox",
    UNAVAILABLE: "No sandbox: takes no tasks",
    "starting": "The sandbox is starting",
}
UNREACHABLE: Final = "The database does not answer: try again in a moment."
_SECONDS_PER_MINUTE, _SECONDS_PER_DAY = 60, 86_400


def duration(seconds: float) -> str:
    """A span of time: "0.4 s", "12 s", "3 min 5 s", "2 h 10 min"."""
    if seconds < 10:
        return f"{max(seconds, 0.0):.1f} s"
    whole = round(seconds)
    if whole < _SECONDS_PER_MINUTE:
        return f"{whole} s"
    minutes, rest = divmod(whole, _SECONDS_PER_MINUTE)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


def span(seconds: float) -> str:
    """A limit of time without idle zeros: "2 min", "1 h", "90 s", "2 min 30 s"."""
    if seconds < 120 and seconds % _SECONDS_PER_MINUTE:
        return f"{seconds:g} s"
    hours, rest = divmod(round(seconds), 3600)
    minutes, rest = divmod(rest, _SECONDS_PER_MINUTE)
    parts = ((hours, "h"), (minutes, "min"), (rest, "s"))
    return " ".join(f"{count} {unit}" for count, unit in parts if count) or "0 s"


def ago(moment: datetime, now: datetime) -> str:
    """How long ago something was: "just now", "5 min ago", "3 h ago", "12 days ago"."""
    minutes = int((now - moment).total_seconds() // _SECONDS_PER_MINUTE)
    if minutes < 1:
        return "just now"
    if minutes < 60:
        return f"{minutes} min ago"
    return f"{minutes // 60} h ago" if minutes < 48 * 60 else f"{counted(minutes // (24 * 60), 'day')} ago"


def until(moment: datetime, now: datetime) -> str:
    """When something happens that is yet to come: "in 40 s", "in 3 min 5 s", "in 7 days"; "at once"."""
    seconds = math.ceil((moment - now).total_seconds())
    if seconds <= 0:
        return "at once"
    if seconds >= 2 * _SECONDS_PER_DAY:
        return f"in {counted(round(seconds / _SECONDS_PER_DAY), 'day')}"
    return f"in {duration(seconds)}" if seconds >= 10 else f"in {seconds} s"


def size(count: int) -> str:
    """A number of bytes: "512 B", "3.4 KB", "1.2 MB" (of 1,000)."""
    value = float(count)
    for unit in ("B", "KB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            return f"{count} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{count} B"


def memory(count: float) -> str:
    """A limit in bytes as it is set: "512 MiB", "1 GiB", "1.5 GiB" (of 1,024)."""
    mebibytes = count / (1 << 20)
    return f"{mebibytes:,.6g} MiB" if mebibytes < 1024 else f"{mebibytes / 1024:,.4g} GiB"


def reach(hosts: Collection[str]) -> str:
    """How far code may reach: "no internet", "1 site allowed"."""
    return f"{counted(len(hosts), 'site')} allowed" if hosts else "no internet"


def isolation(tier: str) -> str:
    """What isolates code, from the name of the sandbox's tier."""
    return ISOLATION_WORDS.get(tier, f"Sandbox: {plain(tier or '?')}")


WAY_WORDS: Final = {
    "direct": "Woken by the database at once",
    "pooler": "On the database through a pooler: looks for tasks every few seconds",
    "api": "Over the API: woken by Realtime",
}


def way_to_the_queue(way: str) -> str:
    """How a worker learns of tasks, from the name of its way to the queue."""
    return WAY_WORDS.get(way, f"Queue: {plain(way)}")


def walls(tier: str, limits: Mapping[str, float], hosts: Collection[str] | None) -> str:
    """The sandbox of a run in a line: "Isolated by Linux namespaces · 1 GiB memory · … · no internet".

    What was not told is left out; `hosts` is None then.
    """
    parts = [isolation(tier)]
    if limits.get("memory_bytes"):
        parts.append(f"{memory(limits['memory_bytes'])} memory")
    if limits.get("execution_seconds"):
        parts.append(f"{span(limits['execution_seconds'])} per step")
    if limits.get("seconds"):
        parts.append(f"{span(limits['seconds'])} in all")
    if hosts is not None and tier != UNSAFE:
        parts.append(reach(hosts))
    return " · ".join(parts)


def dollars(amount: float) -> str:
    """Money: "$5.00", "$0.0042"; more digits where it is less than a dollar, because tasks cost cents."""
    if amount >= 1 or amount == 0:
        return f"${amount:,.2f}"
    return f"${amount:.4f}" if amount >= 0.0001 else "less than $0.0001"


def budget(amount: float) -> str:
    """Money that may be spent: "$5.00", "$0.04"."""
    return f"${amount:,.2f}"


def no_worker_for(labels: Collection[str]) -> str:
    """What keeps a task waiting whose labels no worker has that is online."""
    word = "label" if len(labels) == 1 else "labels"
    return f"Needs a worker with the {word} {', '.join(sorted(labels))}; none is online."


def counted(count: int, word: str, plural: str = "") -> str:
    """A number with its word: "1 check", "3 checks". Give the plural when it is not the word with an s."""
    return f"{count:,} {word if count == 1 else plural or word + 's'}"


def short(text: str, most: int) -> str:
    """One line of at most so many characters."""
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 1].rstrip() + "…"


def status_words(row: TaskRow) -> str:
    """The badge of a task."""
    if row.cancelling:
        return "Cancelling…"
    if row.state == "succeeded":
        return "Proven" if row.verdict == "proven" else "Unverified"
    if row.state == "failed" and row.verdict == "refuted":
        return "Refuted"
    if row.state == "scheduled" and row.failures > 0:
        return "Waits to be tried again"
    return STATE_WORDS.get(row.state, row.state)


def announcement(old: TaskRow, new: TaskRow) -> str:
    """What a screen reader says of a change of state; nothing when the state is the same."""
    if status_words(old) == status_words(new):
        return ""
    return f"Task “{short(new.prompt, 60)}”: {status_words(new)}."


def asked_announcement(approval: Approval) -> str:
    """What a screen reader says when something begins to wait for the person."""
    return f"Your decision is asked for: {short(visible(approval.question), 200)}"


def elapsed(row: TaskRow, now: datetime) -> float | None:
    """Seconds since the task was first claimed, or that it took; None before."""
    if row.started_at is None:
        return None
    end = row.finished_at or now
    return max((end - row.started_at).total_seconds(), 0.0)


def problem(error: AssistantError) -> str:
    """What people read of an error. What the database's client says of a failure is for the log."""
    return UNREACHABLE if isinstance(error, StoreUnavailableError) else str(error)


# What is made something else after all escapes are gone: GitHub's Markdown makes links
# (https://github.github.com/gfm/#autolinks-extension-), and Streamlit makes its picture and signs like "→".
_CHANGED = re.compile(
    r"((?<!\w)(?:https?://|www\.)\S*[^\s.,;:!?)\]'\"]|(?<!\w)[\w.+-]+@[\w-]+(?:\.[\w-]+)+"
    r"|:streamlit:|(?<!\S)(?:<->|->|<-|--|>=|<=|~=)(?!\S))",
    re.IGNORECASE,
)


def plain(text: str) -> str:
    """Text as Markdown that shows exactly this text on one line; what would become a link or sign is code."""
    parts = _CHANGED.split(" ".join(text.split()))
    return "".join(literal(part) if index % 2 else _escaped(part) for index, part in enumerate(parts))


def _escaped(text: str) -> str:
    escaped = re.sub(r"([\\`*_{}\[\]()#+\-.!|~$:<>&])", r"\\\1", text)
    # Streamlit looks for its icons before it reads any Markdown.
    return escaped.replace(":material/", ":material\\/")


def as_written(text: str) -> str:
    """Text as Markdown that shows exactly this text: line breaks kept, nothing taken for Markdown."""
    return "  \n".join(plain(line) if line.strip() else "&nbsp;" for line in text.splitlines())


def literal(text: str) -> str:
    """Text as Markdown that shows it as code on one line; nothing at all for blank text."""
    line = " ".join(text.split())
    if not line:
        return ""
    # CommonMark 6.1: the fence is longer than any row of backticks inside; a blank at each end is dropped.
    fence = "`" * (max((len(row) for row in re.findall(r"`+", line)), default=0) + 1)
    return f"{fence} {line} {fence}"


# An image whose address is not one of our own: opening the answer would tell that address who reads it.
_IMAGE = re.compile(r"!\[([^\]]*)\]\s*(?:\(\s*<?([^)\s>]*)>?[^)]*\)|\[([^\]]*)\])")
_MONEY = re.compile(r"(?<![\\$])\$(?=\d)")
_FENCE = re.compile(r"(^(?:```|~~~).*?^(?:```|~~~)[^\S\n]*$|`[^`\n]+`)", re.MULTILINE | re.DOTALL)


def safe_markdown(text: str) -> str:
    """An answer's Markdown without anything that loads by itself.

    Images become words that name them, whatever their address, because artifacts are shown below the answer
    anyway. HTML is escaped by Streamlit. Code keeps every character. "$5" stays money instead of beginning a
    formula.
    """
    parts = _FENCE.split(text)
    return "".join(part if index % 2 else _without_images(part) for index, part in enumerate(parts))


def _without_images(text: str) -> str:
    def words(match: re.Match[str]) -> str:
        label = match.group(1).strip() or (match.group(2) or match.group(3) or "").rsplit("/", 1)[-1]
        return f"*(picture: {plain(label) or 'without a name'})*"

    text = _IMAGE.sub(words, text)
    # What is left of image syntax, such as one that is broken over lines, is taken apart.
    text = text.replace("![", "!\\[")
    return _MONEY.sub(r"\\$", text)
