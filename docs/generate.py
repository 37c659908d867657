"""Writes the pages of this folder that are made from code: ``python docs/generate.py [--check]``.

``record-schema.md`` comes from the record's pydantic model, ``methods.md`` from the method cards and from what methods
and tasks answer when they are asked where they run, ``protocols.md`` from the files in ``suites/protocols``; their text
is in ``templates/``.
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from jinja2 import Environment, FileSystemLoader, StrictUndefined  # noqa: E402
from pydantic import BaseModel  # noqa: E402

from adm_core import registry  # noqa: E402
from adm_core.method import CAPABILITIES, Method  # noqa: E402
from adm_core.settings import searches  # noqa: E402
from docs import overview  # noqa: E402
from results.records import schema  # noqa: E402
from suites.spec.definition import load_protocol  # noqa: E402
from suites.spec.names import protocol_names  # noqa: E402

PAGES = ("record-schema.md", "methods.md", "protocols.md")


def pages() -> dict[str, str]:
    """File name to text of every generated page."""
    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # Markdown made from our own code
    )
    content = {
        "record-schema.md": {"models": list(_models()), "version": schema.SCHEMA_VERSION},
        "methods.md": {
            "tasks": list(overview.TASKS),
            "families": overview.families(_builtin()),
            "costs": overview.costs(),
            "methods": [_method(name) for name in _builtin()],
            "capabilities": CAPABILITIES,
        },
        "protocols.md": {"protocols": [_protocol(name) for name in protocol_names()]},
    }
    return {name: environment.get_template(f"{name}.j2").render(**content[name]) for name in PAGES}


def _models() -> Iterator[dict[str, Any]]:
    """Every model of the record and of the manifest, as rows of field, type and meaning."""
    cell = (
        "Cell",
        "BenchmarkIdentity",
        "Condition",
        "LabelNoise",
        "Shift",
        "NetworkIdentity",
        "MethodPart",
        "Stretch",
        "TeacherRecipe",
    )
    for name in (
        "Record",
        *cell,
        "Primary",
        "Stretched",
        "NoisyLabels",
        "Cost",
        "TeacherIdentity",
        "Attempt",
        "Manifest",
        "ManifestRow",
    ):
        model: type[BaseModel] = getattr(schema, name)
        fields = [
            {
                "name": key,
                "type": _type(field.annotation),
                "about": field.description or "",
                "needed": field.is_required(),
            }
            for key, field in model.model_fields.items()
        ]
        yield {"name": name, "about": inspect.cleandoc(model.__doc__ or "").split("\n\n")[0], "fields": fields}


def _type(annotation: Any) -> str:
    """A type as people write it."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is type(None):
        return "null"
    if origin is typing.Annotated:
        return _type(inner[0])
    if origin is typing.Literal:
        return " \\| ".join(f"`{value!r}`" if not isinstance(value, str) else f"`{value}`" for value in inner)
    if origin in (list, tuple):
        return f"list of {_type(inner[0])}"
    if origin is dict:
        return f"{_type(inner[0])} → {_type(inner[1])}"
    if inner:
        return " \\| ".join(dict.fromkeys(_type(part) for part in inner))
    names = {"JsonValue": "JSON", "str": "text", "float": "number", "int": "whole number", "bool": "true/false"}
    name = getattr(annotation, "__name__", str(annotation))
    return names.get(name, f"[{name}](#{name.lower()})")


def _builtin() -> list[str]:
    """The methods of this repository; those that an installed plug-in brings are not ours to document."""
    folder = HERE.parent / "adm_core" / "methods"
    return [name for name in registry.names() if (folder / f"{name.replace('-', '_')}.py").exists()]


def _method(name: str) -> dict[str, Any]:
    method = registry.get(name)
    ranges = {
        key: f"{search.low:g} to {search.high:g}{', linear' if search.scale == 'linear' else ''}"
        for key, search in searches(method.Settings).items()
    }
    settings = [
        {"name": f.name, "default": f"`{f.default!r}`", "searched": ranges.get(f.name, "")}
        for f in dataclasses.fields(method.Settings)
    ]
    return {
        "card": method.card,
        "regimes": " and ".join(sorted(method.card.regimes)),
        "about": inspect.cleandoc(method.__doc__ or ""),
        "settings": settings,
        "settings_about": _settings_about(method),
        "file": f"adm_core/methods/{name.replace('-', '_')}.py",
    }


def _settings_about(method: type[Method]) -> str:
    text = inspect.cleandoc(method.Settings.__doc__ or "")
    return text.replace("Attributes:\n", "").strip() if method.Settings.__qualname__ != "NoSettings" else ""


def _protocol(name: str) -> dict[str, Any]:
    protocol = load_protocol(name)[1]
    recipe = protocol.recipe
    o, s = recipe.optimizer, recipe.schedule
    return {
        "name": name,
        "title": protocol.title,
        "source": protocol.source,
        "task": protocol.task,
        "epochs": recipe.epochs,
        "batch": recipe.batch_size,
        "precision": recipe.precision,
        "kernels": recipe.kernels,
        "optimizer": o.model_dump(),
        "schedule": s.model_dump(exclude_defaults=True) or {"name": s.name},
        "selection": recipe.selection,
        "data": protocol.data,
    }


def main() -> int:
    """Write the pages, or with ``--check`` say which are out of date; the exit status."""
    stale = [name for name, text in pages().items() if not _same(HERE / name, text)]
    if "--check" in sys.argv[1:]:
        for name in stale:
            print(f"docs/{name} is out of date: run python docs/generate.py", file=sys.stderr)
        return int(bool(stale))
    for name, text in pages().items():
        (HERE / name).write_text(text, encoding="utf-8")
        print(f"docs/{name}")
    return 0


def _same(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8") == text


if __name__ == "__main__":
    sys.exit(main())
