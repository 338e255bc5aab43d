"""What runs on the far side of the wall: zygote, session init, and the Python that runs generated code.

Standard library only. The zygote imports this package by itself, under a name of its own and before it
leaves the host's file system, so that nothing of the project has to be visible inside.
"""
