"""What pip and npm say when they fail, and what that means for the person."""

from __future__ import annotations

import re

# Pairs of what is looked for and what it means; the first that fits is told.
CAUSES = (
    (
        r"DO NOT MATCH THE HASHES|EINTEGRITY",
        "A download is not the file that the lock names: it was damaged on the way or changed at its source. "
        "Start again; if it happens again, do not use that source.",
    ),
    (
        r"No space left on device|ENOSPC|Disk quota exceeded|EDQUOT",
        "The disk is full: make room for about 1.5 GB and start again.",
    ),
    (
        r"Permission denied|EACCES|EPERM|Read-only file system|EROFS",
        "A file cannot be written: give this user the right to write in the project's folder.",
    ),
    (
        r"CERTIFICATE_VERIFY_FAILED|SELF_SIGNED_CERT|UNABLE_TO_GET_ISSUER_CERT",
        "The server's certificate is not trusted: behind a company's proxy, set PIP_CERT and "
        "NODE_EXTRA_CA_CERTS to its certificate file.",
    ),
    (
        r"NewConnectionError|NameResolutionError|Failed to establish|name resolution|ProxyError|Timeout|"
        r"ReadTimeout|timed out|Connection (?:refused|reset|aborted)|Network is unreachable|ENOTFOUND|"
        r"EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH",
        "A download failed: check the network and, if there is a proxy, HTTPS_PROXY; then start again, what "
        "is there already is kept.",
    ),
    (
        r"No matching distribution found|Could not find a version|ETARGET|E404",
        "A package that the lock names cannot be had from the configured source for this system: check "
        "PIP_INDEX_URL and npm's registry setting.",
    ),
)


class SetupError(Exception):
    """The set-up cannot go on; the message says what to do."""


def explain(output: str) -> str:
    """One sentence about the cause of a failed installation."""
    for pattern, sentence in CAUSES:
        if re.search(pattern, output, re.IGNORECASE):
            return sentence
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"(npm )?err", line, re.IGNORECASE)]
    return f"It said: {(errors or lines or ['nothing'])[-1]}"
