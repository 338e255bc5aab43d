"""What to tell a person whose host cannot isolate code: what is missing, and each way to mend it."""

from __future__ import annotations

import errno
from pathlib import Path

_PROC = Path("/proc")
# Steps of tier "landlock", whose errors say themselves what to change.
_OWN_WORDS = {
    "privileges": "",
    "landlock": " Use Linux 6.12 or newer, with landlock in the list of the kernel option lsm=.",
    "scratch": "",
    "reach": "",
}


def _setting(name: str) -> str | None:
    try:
        return (_PROC / "sys" / name).read_text().strip()
    except OSError:  # this kernel has no such setting
        return None


def _in_container() -> bool:
    return Path("/.dockerenv").exists() or Path("/run/.containerenv").exists()


def unavailable(stage: str, error: str, number: int | None) -> str:
    """Return the message for a zygote that could not build its walls.

    Args:
        stage: the step that failed, as the zygote names it.
        error: what failed.
        number: its errno, where there is one.
    """
    if stage in _OWN_WORDS:
        text = error.removeprefix("OSError: ").removeprefix("_sandbox_inside.scratch.ScratchError: ")
        return f"This host cannot isolate generated code, so none will be run: {text}.{_OWN_WORDS[stage]}"
    lines = [f"This host cannot isolate generated code, so none will be run. Failed at: {stage} ({error})."]
    fixes: list[str] = []
    if _setting("kernel/apparmor_restrict_unprivileged_userns") == "1":
        lines.append("AppArmor restricts user namespaces (apparmor_restrict_unprivileged_userns=1).")
        fixes.append(
            "give this Python an AppArmor profile that allows userns, or run "
            "`sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0`"
        )
    if _setting("kernel/unprivileged_userns_clone") == "0":
        lines.append("The kernel refuses user namespaces to ordinary users (unprivileged_userns_clone=0).")
        fixes.append("run `sudo sysctl kernel.unprivileged_userns_clone=1`")
    if _setting("user/max_user_namespaces") == "0":
        lines.append("The kernel allows no user namespaces (max_user_namespaces=0).")
        fixes.append("run `sudo sysctl user.max_user_namespaces=15000`")
    if _in_container():
        lines.append("This is a container, whose default seccomp profile forbids namespaces.")
        fixes.append(
            "start the container with `--security-opt seccomp=unconfined` as an ordinary user, "
            "and with `--security-opt systempaths=unconfined` so that /proc can be mounted"
        )
    if number == errno.ENOSYS:
        lines.append("The kernel lacks a system call that is needed.")
        fixes.append("use Linux 5.14 or newer")
    if stage == "preload":
        fixes.append("install the packages of requirements.lock again: a preloaded one does not import")
    elif not fixes:
        fixes.append("allow unprivileged user namespaces, or run the worker as root with CAP_SYS_ADMIN")
    lines += [f"  ({letter}) {fix}" for letter, fix in zip("abcdef", fixes, strict=False)]
    return "\n".join([lines[0], *lines[1 : -len(fixes)], "Do ONE of these:", *lines[-len(fixes) :]])
