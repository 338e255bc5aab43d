"""Isolated Python for generated code, by Linux namespaces around a forked, preloaded interpreter.

`zygote_sandbox()` is for a process that owns the zygote (a worker, or the library by itself);
`connect_sandbox(socket_path)` is for runners, which know no more than the worker's socket.
"""

from pythonic_assistant.adapters.sandbox.open import connect_sandbox, zygote_sandbox

__all__ = ["connect_sandbox", "zygote_sandbox"]
