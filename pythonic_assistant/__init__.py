"""A Python assistant that people own: it plans, writes code, runs it isolated, and proves its answer."""

__version__ = "0.1.0"
