"""Defaults are not in identities, so a default that moves would move numbers under an old id: it may not, unnoticed.

``python tests/suites/spec/test_defaults.py`` writes ``defaults.json`` anew, once the version of each method whose
defaults moved has been raised. A recipe or a task's data have no version: give the new behaviour a new key instead.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

FILE = Path(__file__).with_name("defaults.json")


def defaults_of(model: type[BaseModel]) -> dict[str, Any]:
    """Key to default, by dotted keys below models; keys without a default are left out."""
    found: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            found |= {f"{name}.{key}": value for key, value in defaults_of(inner).items()}
        elif field.default is not PydanticUndefined:
            found[name] = list(field.default) if isinstance(field.default, tuple) else field.default
    return found


def present() -> dict[str, Any]:
    """All defaults that identities leave out."""
    from adm_core import registry
    from adm_core.recipe import Recipe
    from tasks import catalogue

    methods = {}
    for name in registry.names():
        method = registry.get(name)
        if method.__module__.startswith("adm_core.methods."):
            methods[name] = {"version": method.card.version, "defaults": json.loads(json.dumps(method.defaults()))}
    settings = {task: importlib.import_module(f"tasks.{task}.data_settings") for task in catalogue.tasks()}
    data = {task: defaults_of(module.DataSettings) for task, module in settings.items()}
    return {"recipe": defaults_of(Recipe), "data": data, "methods": methods}


def moved(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """The keys of both whose default is another now; a key that is new, or gone, moves no number of an old cell."""
    return [key for key, value in old.items() if key in new and new[key] != value]


def test_no_default_of_a_recipe_or_of_data_moved() -> None:
    frozen, now = json.loads(FILE.read_text()), present()
    assert moved(frozen["recipe"], now["recipe"]) == []
    assert [moved(old, now["data"][task]) for task, old in frozen["data"].items()] == [[]] * len(frozen["data"])


def test_a_method_whose_defaults_moved_has_another_version() -> None:
    frozen, now = json.loads(FILE.read_text())["methods"], present()["methods"]
    same = [name for name, old in frozen.items() if name in now and now[name]["version"] == old["version"]]
    assert [name for name in same if moved(frozen[name]["defaults"], now[name]["defaults"])] == []


def test_what_is_frozen_is_all_that_there_is() -> None:
    frozen, now = json.loads(FILE.read_text()), present()
    assert frozen.keys() == now.keys() and all(frozen[part].keys() == now[part].keys() for part in frozen)
    keys = [{name: sorted(each["defaults"]) for name, each in side["methods"].items()} for side in (frozen, now)]
    assert keys[0] == keys[1] and all(frozen["data"][task].keys() == now["data"][task].keys() for task in now["data"])


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[3]))
    FILE.write_text(json.dumps(present(), indent=1, sort_keys=True) + "\n")
