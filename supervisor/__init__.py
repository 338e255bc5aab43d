"""Starts the processes of one machine, watches them, and leaves nothing behind when it ends."""
