"""Models: the Responses API, Chat Completions, and the scripted demo; `model_from` makes one."""

from pythonic_assistant.adapters.models.catalogue import ModelSettings, OwnedModel, model_from

__all__ = ["ModelSettings", "OwnedModel", "model_from"]
