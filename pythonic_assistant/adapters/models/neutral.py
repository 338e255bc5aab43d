"""Items of a conversation as plain messages that any model of any vendor can read."""

from __future__ import annotations

from typing import Literal, NamedTuple, assert_never

from pythonic_assistant.domain.conversation import CodeResult, Item, Reply, Said

UNREAD_CALL = "This call was not run."


class Message(NamedTuple):
    """A message with the role of its speaker."""

    role: Literal["user", "assistant"]
    text: str


def message_of(item: Item) -> Message:
    """Write an item as a message; code becomes a fenced block."""
    match item:
        case Said():
            return Message("user", item.text)
        case Reply():
            return Message("assistant", reply_text(item))
        case CodeResult():
            return Message("user", f"Result of the code:\n\n{item.text}")
        case _ as never:
            assert_never(never)


def reply_text(reply: Reply) -> str:
    """Words and code of a reply as one text, never empty because servers refuse empty messages."""
    parts = [reply.text] if reply.text.strip() else []
    if reply.code is not None:
        fence = "`" * max(3, _longest_run(reply.code) + 1) if "```" in reply.code else "```"
        parts.append(f"{fence}python\n{reply.code}\n{fence}")
    return "\n\n".join(parts) or "(no words)"


def _longest_run(text: str) -> int:
    longest = run = 0
    for character in text:
        run = run + 1 if character == "`" else 0
        longest = max(longest, run)
    return longest
