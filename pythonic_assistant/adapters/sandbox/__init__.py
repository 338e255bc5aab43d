"""Isolated Python for generated code.

`open_sandbox()` is for a process that owns the sandbox (a worker): it finds the strongest tier that this host
allows. `zygote_sandbox()` is the strongest of them by itself, namespaces around a forked, preloaded
interpreter. `connect_sandbox(socket_path)` is for runners, which know no more than the worker's socket.
"""

from pythonic_assistant.adapters.sandbox.choice import open_sandbox
from pythonic_assistant.adapters.sandbox.open import connect_sandbox, zygote_sandbox
from pythonic_assistant.adapters.sandbox.options import SandboxOptions

__all__ = ["SandboxOptions", "connect_sandbox", "open_sandbox", "zygote_sandbox"]
