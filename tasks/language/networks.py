"""Networks for language, by name: Transformers' GPT-2. Listing and checking them loads no torch.

Own names stand in ``networks.yaml``; a suite's own network has one of these as its base and overrides keys of
``GPT2Config`` (:data:`KEYS`). Taps are maps [B, C, 1, T] of one vector per character: ``stageN`` after block N,
``penultimate`` what the classifier reads, ``logits`` what it gives. ``hint`` is the block in the middle and
``all-stages`` that and the last one, so that networks of unequal depth can be compared, as TinyBERT spreads its layers
over its teacher's (arXiv:1909.10351).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adm_core.errors import AdmError, unknown
from adm_core.network_definition import NetworkDefinition
from adm_core.yaml_file import read_mapping
from tasks.offer import ListedNetwork, listed

if TYPE_CHECKING:
    from adm_core.taps import Network

KEYS = ("n_layer", "n_embd", "n_head", "n_inner", "activation_function", "embd_pdrop", "resid_pdrop", "attn_pdrop")
"""What may be overridden: blocks, width, heads, inner width, activation, and three shares of dropout (0 unless given).
"""
_LIST = Path(__file__).with_name("networks.yaml")


def catalogue() -> list[ListedNetwork]:
    """The networks of this task in the order of their file, without torch; parameters are at 64 characters."""
    return [listed(name, taps(entry["overrides"]["n_layer"]), entry) for name, entry in entries().items()]


def taps(layers: int) -> dict[str, str]:
    """Tap to module path in a ``LanguageModel`` of so many blocks."""
    stages = {f"stage{number}": f"model.transformer.h.{number - 1}.place" for number in range(1, layers + 1)}
    return stages | {"penultimate": "penultimate", "logits": "logits"}


@functools.cache
def entries() -> dict[str, dict[str, Any]]:
    """Network name to its entry, with ``family`` and ``source`` from its group."""
    families: dict[str, dict[str, Any]] = read_mapping(_LIST)
    return {
        name: {"family": family, "source": group["source"]} | own
        for family, group in families.items()
        for name, own in group["networks"].items()
    }


def check_definition(definition: NetworkDefinition) -> None:
    """Stop at a suite's own network that cannot be built, as far as its overrides tell.

    Raises:
        AdmError: it is given by a config file, or an override is unknown; nearest keys are given.
    """
    _config(definition.base, definition)


def build(name: str, classes: int, length: int, definition: NetworkDefinition | None = None) -> Network:
    """A network with fresh weights, initialised from torch's global generator.

    Args:
        name: a name of the catalogue, or with ``definition`` any name.
        classes: size of the alphabet.
        length: of the benchmark's windows, the most characters that it can read.
        definition: what a suite defines under this name; None where it is a known one.

    Raises:
        AdmError: no such network (nearest names are given), Transformers is not installed or cannot build it.
    """
    from tasks.language import gpt2

    config = _config(name, definition)
    return gpt2.build(name, config, taps(config["n_layer"]), classes, length)


def _config(name: str, definition: NetworkDefinition | None) -> Mapping[str, Any]:
    if definition is not None and definition.file is not None:
        raise AdmError("config: language builds networks of its own list with overrides, none from a config file")
    base, overrides = (definition.base, definition.overrides) if definition else (name, {})
    if base not in entries():
        raise unknown("network", base, entries())
    for key in overrides:
        if key not in KEYS:
            raise unknown("key", key, KEYS, where="overrides")
    return {**entries()[base]["overrides"], **overrides}
