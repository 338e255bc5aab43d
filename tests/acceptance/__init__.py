"""Everything started as a person starts it."""
