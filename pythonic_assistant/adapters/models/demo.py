"""The scripted demo: four tasks whose code really runs and whose answers hold what it printed. No AI."""

from __future__ import annotations

from pythonic_assistant.adapters.models.demo_describe import DESCRIBE
from pythonic_assistant.adapters.models.demo_heavy import HEAVY
from pythonic_assistant.adapters.models.demo_plot import PLOT
from pythonic_assistant.adapters.models.demo_table import TABLE
from pythonic_assistant.adapters.models.scripted import Scenario, ScriptedModel

REFUSAL = (
    "The scripted demo, which uses no AI, knows only its four example tasks. To ask anything, configure a "
    "model and start again: set OPENAI_API_KEY, or OPENAI_BASE_URL and PYTHONIC_MODEL for Ollama or "
    "another server."
)

DEMO_SCENARIOS: tuple[Scenario, ...] = (PLOT, TABLE, DESCRIBE, HEAVY)


def demo_model() -> ScriptedModel:
    """The model of the demo."""
    return ScriptedModel(DEMO_SCENARIOS, refusal=REFUSAL)


def demo_prompts() -> tuple[tuple[str, str, tuple[str, ...]], ...]:
    """For each task of the demo its title, its prompt, and the names of its files in `examples/`."""
    return tuple((scenario.title, scenario.prompt, scenario.inputs) for scenario in DEMO_SCENARIOS)
