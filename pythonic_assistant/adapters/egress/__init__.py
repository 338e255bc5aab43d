"""The way out of a session: a proxy of the host that allows, swaps secrets in, and reports."""
