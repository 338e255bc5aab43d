"""The drill: every part killed at every named point of a task's path, and what became of the tasks."""
