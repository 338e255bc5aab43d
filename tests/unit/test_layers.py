"""Walls that import-linter does not see: single files, the standard library, who reads the environment."""

from __future__ import annotations

import ast
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
LIBRARY = PROJECT / "pythonic_assistant"
PACKAGES = [
    PROJECT / name for name in ("pythonic_assistant", "worker", "live", "embedded_supabase", "supervisor")
]
READERS = frozenset({"environ", "environb", "getenv", "getenvb"})
# Programmes of their own, which run inside the sandbox: their environment is what the sandbox made for them.
INSIDE = LIBRARY / "adapters" / "sandbox" / "inside"
INNER = ("domain", "ports.py", "prompts", "agent", "adapters", "tools")


def modules(*places: Path) -> list[Path]:
    found = [path for place in places for path in ([place] if place.is_file() else place.rglob("*.py"))]
    return sorted(path for path in found if "node_modules" not in path.parts)


def imports(source: str) -> Iterator[str]:
    """Every imported module, also those imported inside functions."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the layer"
            assert node.module is not None
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def reads_environment(source: str) -> bool:
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Attribute(value=ast.Name(id="os"), attr=name) if name in READERS:
                return True
            case ast.ImportFrom(module="os", names=names) if READERS & {alias.name for alias in names}:
                return True
            case _:
                continue
    return False


def within(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def test_the_domain_imports_the_standard_library_only() -> None:
    files = modules(LIBRARY / "domain")
    assert len(files) > 3
    for path in files:
        for name in imports(path.read_text(encoding="utf-8")):
            top = name.partition(".")[0]
            allowed = within(name, "pythonic_assistant.domain") or top in sys.stdlib_module_names
            assert allowed, f"{path.relative_to(PROJECT)} imports {name}"


def test_the_installation_imports_the_standard_library_only() -> None:
    for path in modules(PROJECT / "bootstrap.py", PROJECT / "installation"):
        for name in imports(path.read_text(encoding="utf-8")):
            top = name.partition(".")[0]
            assert top in sys.stdlib_module_names | {"installation"}, f"{path.name} imports {name}"


def test_only_applications_read_the_environment() -> None:
    files = modules(
        *(LIBRARY / name for name in INNER), LIBRARY / "settings.py", LIBRARY / "setting_values.py"
    )
    assert len(files) > 10
    outside = [path for path in files if not path.is_relative_to(INSIDE)]
    readers = [path.name for path in outside if reads_environment(path.read_text("utf-8"))]
    assert readers == []


# What each single file may import of the project's own packages.
SINGLE_FILES = {
    "main.py": ("pythonic_assistant.domain", "pythonic_assistant.settings", "supervisor"),
    # The page never builds adapters and never touches the model, the sandbox or other processes.
    "interface.py": ("pythonic_assistant.domain", "pythonic_assistant.settings", "live", "pages"),
    "pages": ("pythonic_assistant.domain", "live", "pages"),
}
OURS = (
    *("pythonic_assistant", "supervisor", "worker", "live", "pages", "embedded_supabase"),
    *("interface", "main", "bootstrap", "installation", "benchmarks", "tests"),
)


@pytest.mark.parametrize("place", SINGLE_FILES)
def test_single_files_import_only_what_their_layer_may(place: str) -> None:
    for path in modules(PROJECT / place):
        for name in imports(path.read_text(encoding="utf-8")):
            if within(name, *OURS):
                # `from a import b` gives both `a` and `a.b`: a parent is judged by its child
                parent = any(allowed.startswith(f"{name}.") for allowed in SINGLE_FILES[place])
                assert parent or within(name, *SINGLE_FILES[place]), f"{path.name} imports {name}"


def test_main_exists_and_the_supabase_folder_is_no_package() -> None:
    assert (PROJECT / "main.py").is_file()
    assert not list((PROJECT / "supabase").rglob("*.py")), "Python there would shadow the package `supabase`"


def test_every_package_is_installed() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
    folders = {path.parent.relative_to(PROJECT) for path in modules(*PACKAGES, PROJECT / "pages")}
    assert sorted(project["tool"]["setuptools"]["packages"]) == sorted(".".join(f.parts) for f in folders)


def test_the_supabase_package_is_the_real_one() -> None:
    import supabase

    assert supabase.__file__ is not None, "the folder supabase/ was imported instead of the package"
    assert hasattr(supabase, "create_client")


@pytest.mark.parametrize(
    ("source", "reads"),
    [
        ("import os\nx = os.environ['A']", True),
        ("import os\ndef f():\n    return os.getenv('A')", True),
        ("from os import environ", True),
        ("import os\nx = os.getpid()", False),
    ],
)
def test_the_reader_of_environments_is_found(source: str, reads: bool) -> None:
    assert reads_environment(source) is reads
