"""What to tell a person whose host cannot isolate code: what each tier lacks, and each way to mend it."""

from __future__ import annotations

import errno
import string
from collections.abc import Sequence
from pathlib import Path

from pythonic_assistant.domain.errors import SandboxUnavailableError

_PROC = Path("/proc")
_HEADLINE = "This host cannot isolate generated code, so none will be run."
_APPARMOR_FIX = (
    "Ubuntu: run `sudo apt-get install bubblewrap apparmor-profiles` and `sudo ln -s "
    "/usr/share/apparmor/extra-profiles/bwrap-userns-restrict /etc/apparmor.d/ && sudo systemctl reload "
    "apparmor`, which lets bwrap make the namespaces; or, for every programme of the host, "
    "`sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0`"
)
# By the steps that only the zygote of tier landlock takes.
_LANDLOCK_FIXES = {
    "landlock": "use Linux 6.2 or newer (6.12 or newer is best) with `landlock` in the kernel's `lsm=` list",
    "privileges": "run the worker as an ordinary user, or give it the capabilities that are named",
    "reach": "install Python and its packages where everybody may read them, or run as an ordinary user",
    "scratch": "let the worker write in its folder for temporary files (TMPDIR)",
}


class TierUnavailableError(SandboxUnavailableError):
    """One tier cannot be had.

    Args:
        missing: sentences about what it lacks, the first about the step that failed.
        fixes: each of them alone would mend it.
    """

    def __init__(self, missing: Sequence[str], fixes: Sequence[str]) -> None:
        super().__init__(_text([f"{_HEADLINE} {missing[0]}", *missing[1:]], fixes))
        self.missing = tuple(missing)
        self.fixes = tuple(fixes)


def all_unavailable(errors: Sequence[tuple[str, SandboxUnavailableError]]) -> str:
    """Return the message for a host on which every tier failed.

    Args:
        errors: tier and reason, in the order in which they were tried.
    """
    fixes: list[str] = []
    for _, error in errors:
        if isinstance(error, TierUnavailableError):
            fixes += error.fixes
    fixes.append("run the worker in the container of deploy/, or on another machine")
    return _text([_HEADLINE, *(f"  {tier}: {reason(error)}" for tier, error in errors)], fixes)


def reason(error: SandboxUnavailableError) -> str:
    """Return what a tier lacks, on one line and without the fixes."""
    text = " ".join(error.missing) if isinstance(error, TierUnavailableError) else str(error)
    return " ".join(text.split())


def unavailable(stage: str, error: str, number: int | None) -> TierUnavailableError:
    """Return the error for a zygote that could not build its walls.

    Args:
        stage: the step that failed, as the zygote names it.
        error: what failed.
        number: its errno, where there is one.
    """
    failed = f"Failed at: {stage} ({error})."
    if stage in _LANDLOCK_FIXES:
        return TierUnavailableError([failed], [_LANDLOCK_FIXES[stage]])
    missing, fixes = _of_host(number)
    if stage == "preload":
        fixes.append("install the packages of requirements.lock again: a preloaded one does not import")
    elif not fixes:
        fixes.append("allow unprivileged user namespaces, or run the worker as root with CAP_SYS_ADMIN")
    return TierUnavailableError([failed, *missing], fixes)


def bwrap_unavailable(what: str, *, installed: bool = True) -> TierUnavailableError:
    """Return the error for a box that bubblewrap could not make.

    Args:
        what: how it failed, a sentence.
        installed: whether there is a bwrap at all.
    """
    missing, fixes = _of_host(None)
    if not installed:
        fixes.insert(0, "install bubblewrap, such as `apt-get install bubblewrap`")
    elif not fixes:
        fixes.append("allow bwrap to make user namespaces, or run the worker as root")
    return TierUnavailableError([what, *missing], fixes)


def _of_host(number: int | None) -> tuple[list[str], list[str]]:
    """Return what is known to forbid namespaces on this host, and what allows them."""
    missing: list[str] = []
    fixes: list[str] = []
    if _setting("kernel/apparmor_restrict_unprivileged_userns") == "1":
        missing.append("AppArmor restricts user namespaces (apparmor_restrict_unprivileged_userns=1).")
        fixes.append(_APPARMOR_FIX)
    if _setting("kernel/unprivileged_userns_clone") == "0":
        missing.append("The kernel refuses user namespaces to ordinary users (unprivileged_userns_clone=0).")
        fixes.append("run `sudo sysctl kernel.unprivileged_userns_clone=1`")
    if _setting("user/max_user_namespaces") == "0":
        missing.append("The kernel allows no user namespaces (max_user_namespaces=0).")
        fixes.append("run `sudo sysctl user.max_user_namespaces=15000`")
    if _in_container():
        missing.append("This is a container, whose default seccomp profile forbids namespaces.")
        fixes.append(
            "start the container with `--security-opt seccomp=unconfined` as an ordinary user, "
            "and with `--security-opt systempaths=unconfined` so that /proc can be mounted"
        )
    if number == errno.ENOSYS:
        missing.append("The kernel lacks a system call that is needed.")
        fixes.append("use Linux 5.14 or newer")
    return missing, fixes


def _setting(name: str) -> str | None:
    try:
        return (_PROC / "sys" / name).read_text().strip()
    except OSError:  # this kernel has no such setting
        return None


def _in_container() -> bool:
    return Path("/.dockerenv").exists() or Path("/run/.containerenv").exists()


def _text(lines: Sequence[str], fixes: Sequence[str]) -> str:
    listed = zip(string.ascii_lowercase, dict.fromkeys(fixes), strict=False)
    return "\n".join([*lines, "Do ONE of these:", *(f"  ({letter}) {fix}" for letter, fix in listed)])
