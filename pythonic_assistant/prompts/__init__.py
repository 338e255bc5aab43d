"""Prompt files and their strict rendering."""
