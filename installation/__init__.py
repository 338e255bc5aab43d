"""Sets the project up in its own folder, from lock files, with the standard library alone."""
