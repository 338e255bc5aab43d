"""Measurements of speed, each runnable with one command: a table to read and one JSON line per figure."""
