"""Networks for image classification, by name. Listing them loads no torch; building one does.

Own networks stand in ``networks.yaml``. ``torchvision/NAME`` and ``timm/NAME`` build any classifier of those
libraries, untrained.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adm_core.errors import AdmError, unknown
from adm_core.network_definition import NetworkDefinition
from adm_core.yaml_file import read_mapping
from tasks.offer import ListedNetwork, listed

if TYPE_CHECKING:
    from torch import nn

    from adm_core.taps import Network
    from tasks.classification.networks.normalisation import Normalisation

EXTERNAL = ("torchvision/", "timm/")
"""Beginnings of the names that libraries answer to; what follows is known once the library is loaded."""
_LIST = Path(__file__).with_name("networks.yaml")


def catalogue() -> list[ListedNetwork]:
    """The networks of this task in the order of their file, without torch; parameters are at 100 classes."""
    return [listed(name, _taps(entry), entry) for name, entry in _entries().items()]


def check_definition(definition: NetworkDefinition) -> None:
    """Stop at a suite's own network that this task cannot build.

    Raises:
        AdmError: it is described by a file, or changes more than its normalisation.
    """
    if definition.file is not None:
        raise AdmError(f"base: classification builds no networks from files such as {definition.base}; give a name")
    for key in definition.overrides:
        if key != "normalisation":
            raise AdmError(
                f"overrides: classification takes 'normalisation' alone, not '{key}'; networks of other widths and "
                "depths have other names"
            )
    asked = definition.overrides.get("normalisation")
    if asked is not None and asked not in ("benchmark", "library") and not _is_normalisation(asked):
        raise AdmError(
            f"overrides.normalisation = {asked}: should be 'benchmark', 'library', or {{mean: [., ., .], std: "
            "[., ., .]}, of pixel values in 0..1"
        )


def build(
    name: str,
    num_classes: int,
    image_size: int | None = None,
    definition: NetworkDefinition | None = None,
    normalised: Normalisation | None = None,
) -> Network:
    """A network with fresh weights, initialised from torch's global generator.

    Args:
        name: a name of the catalogue, ``torchvision/NAME`` or ``timm/NAME``, or any name with a ``definition``.
        num_classes: size of the prediction.
        image_size: height and width of the images; matters only for library networks made for one size.
        definition: what a suite's own network is; its base is built and goes by ``name``.
        normalised: how its images come, which a suite's own network may want otherwise; None: as it wants them.

    Raises:
        AdmError: no such network (nearest names are given), or it cannot be built for this image size.
    """
    if definition is not None:
        check_definition(definition)
        network = dataclasses.replace(_known(definition.base, num_classes, image_size), name=name)
        if normalised is not None:
            from tasks.classification.networks import normalisation

            wanted = normalisation.of_network(name, definition, normalised, num_classes)
            normalisation.renormalise(network.module, normalised, wanted)
        return network
    return _known(name, num_classes, image_size)


def _is_normalisation(asked: Any) -> bool:
    """Whether an override gives three means and three positive deviations."""
    if not isinstance(asked, Mapping) or asked.keys() != {"mean", "std"}:
        return False
    parts = [asked["mean"], asked["std"]]
    numbers = all(
        isinstance(part, list | tuple) and len(part) == 3 and all(isinstance(value, int | float) for value in part)
        for part in parts
    )
    return numbers and min(asked["std"]) > 0


def _known(name: str, num_classes: int, image_size: int | None) -> Network:
    """A network of the catalogue or of a library."""
    from adm_core.taps import Network

    if name.startswith(EXTERNAL):
        from tasks.classification.networks import external

        return external.build(name, num_classes, image_size)
    entries = _entries()
    if name not in entries:
        raise unknown("network", name, entries)
    module, function = entries[name]["builder"].split(":")
    builder = getattr(importlib.import_module(f"{__name__}.{module}"), function)
    model = builder(num_classes=num_classes, **entries[name]["arguments"])
    entry = entries[name]
    return Network(
        name=name,
        module=model,
        taps={tap: _counted(model, path) for tap, path in _taps(entry).items()},
        head="head",
        groups={group: tuple(members) for group, members in entry.get("groups", {}).items()},
        normalisation={tap: _counted(model, path) for tap, path in entry.get("normalisation", {}).items()},
    )


@functools.cache
def _entries() -> dict[str, dict[str, Any]]:
    """Network name to its own entry and its family's, merged."""
    families: dict[str, dict[str, Any]] = read_mapping(_LIST)
    return {
        name: {"family": family, **{key: value for key, value in shared.items() if key != "networks"}, **own}
        for family, shared in families.items()
        for name, own in shared["networks"].items()
    }


def _taps(entry: dict[str, Any]) -> dict[str, str]:
    """Tap to module path; most are the same for every network of the list because they share one skeleton."""
    stages = [f"stage{number}" for number in range(1, entry["stages"] + 1)]
    further: dict[str, str] = entry.get("taps", {})
    return {stage: stage for stage in stages} | {"penultimate": "pool", "logits": "head"} | further


def _counted(model: nn.Module, path: str) -> str:
    """A module path with every negative number, which counts children from the end, replaced by the child's name."""
    names: list[str] = []
    for name in path.split("."):
        children = list(model.get_submodule(".".join(names))._modules)
        names.append(children[int(name)] if name.startswith("-") else name)
    return ".".join(names)
