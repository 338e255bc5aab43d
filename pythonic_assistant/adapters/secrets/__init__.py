"""Secrets at rest: sealed for the worker, so that neither database nor page can read them."""
