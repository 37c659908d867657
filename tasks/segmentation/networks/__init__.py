"""Networks for segmentation, by name. Listing and checking them loads no torch; building one does.

Own names stand in ``networks.yaml``; ``mmseg/NAME`` is any configuration that MMSegmentation ships.
"""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adm_core.errors import AdmError, unknown
from adm_core.network_definition import NetworkDefinition
from adm_core.yaml_file import read_mapping
from tasks.offer import ListedNetwork, listed
from tasks.segmentation.networks.bases import config_files

if TYPE_CHECKING:
    from adm_core.taps import Network

__all__ = ["EXTERNAL", "TAPS", "build", "catalogue", "check", "config_files", "configs_folder", "entries", "shipped"]

EXTERNAL = ("mmseg/",)
"""Prefixes of names that are a library's own."""
_LIST = Path(__file__).with_name("networks.yaml")
TAPS = ("stage1", "stage2", "stage3", "stage4", "penultimate", "logits", "auxiliary1")
"""Outputs of the backbone, what the last head's classifier reads, what it gives, and an auxiliary head's logits; most
networks have all."""


def catalogue() -> list[ListedNetwork]:
    """The networks of this task in the order of their file, without torch; parameters are at 19 classes."""
    return [listed(name, entry["taps"], entry) for name, entry in entries().items()]


def check(name: str, where: str) -> None:
    """Stop at a name ``mmseg/NAME`` that no shipped configuration has.

    Raises:
        AdmError: MMSegmentation is not installed, or ships no such configuration; nearest names are given.
    """
    known = shipped()
    if name.removeprefix("mmseg/") not in known:
        raise unknown("network", name, (f"mmseg/{other}" for other in known), where)


def build(name: str, classes: int, pretrained: bool = False, definition: NetworkDefinition | None = None) -> Network:
    """A network initialised from torch's global generator.

    Args:
        name: a name of the catalogue, ``mmseg/NAME``, or with ``definition`` any name.
        classes: size of the prediction.
        pretrained: start the backbone from the weights that the configuration names.
        definition: what a suite defines under this name; None where it is a known one.

    Raises:
        AdmError: no such network (nearest names are given), its configuration cannot be built, or it is trained by
            more than cross-entropy on its predictions.
    """
    from tasks.segmentation.networks import configs, segmentor

    config = configs.resolve(name, definition)
    return segmentor.build(name, configs.adapted(config, name, classes, pretrained))


@functools.cache
def entries() -> dict[str, dict[str, Any]]:
    """Network name to its entry, with ``family`` and ``source`` from its group and ``taps`` and ``overrides`` set."""
    families: dict[str, dict[str, Any]] = read_mapping(_LIST)
    return {
        name: {"family": family, "source": group["source"], "overrides": {}, "taps": _taps(own)} | own
        for family, group in families.items()
        for name, own in group["networks"].items()
    }


def _taps(entry: dict[str, Any]) -> tuple[str, ...]:
    return tuple(tap for tap in TAPS if tap != "auxiliary1" or entry.get("auxiliary", True))


@functools.cache
def shipped() -> dict[str, Path]:
    """Every model configuration that MMSegmentation ships, by name, found without importing it.

    Raises:
        AdmError: MMSegmentation is not installed.
    """
    spec = importlib.util.find_spec("mmseg")
    if spec is None or spec.origin is None:
        raise AdmError("segmentation needs MMSegmentation, which is not installed; make setup installs it")
    folder = configs_folder()
    return {path.stem: path for path in sorted(folder.glob("*/*.py")) if path.parent.name != "_base_"}


def configs_folder() -> Path:
    """Where MMSegmentation keeps the configurations that it ships."""
    spec = importlib.util.find_spec("mmseg")
    if spec is None or spec.origin is None:
        raise AdmError("segmentation needs MMSegmentation, which is not installed; make setup installs it")
    return Path(spec.origin).parent / ".mim" / "configs"
