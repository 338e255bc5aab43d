"""The demo's prompts stand in a migration, for the page; they have to be those that the demo knows."""

from __future__ import annotations

import json
import re
from pathlib import Path

from pythonic_assistant.adapters.models.demo import demo_prompts

MIGRATION = Path(__file__).parents[2] / "supabase/migrations/20261120000007_built_in_assistants.sql"
EXAMPLES = Path(__file__).parents[2] / "examples"


def test_the_page_offers_the_tasks_that_the_demo_knows() -> None:
    written = re.search(r"'scripted-demo',\s*'(\[.*?\])'", MIGRATION.read_text(), re.DOTALL)
    assert written is not None
    offered = json.loads(written.group(1).replace("''", "'"))
    assert [(row["title"], row["prompt"], tuple(row["files"])) for row in offered] == list(demo_prompts())
    assert all((EXAMPLES / name).is_file() for row in offered for name in row["files"])
