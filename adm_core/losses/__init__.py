"""Pure loss functions on tensors, each written once; a submodule, and torch with it, loads when first used."""

from __future__ import annotations

import importlib
from typing import Any

_SUBMODULES = ("features", "logits", "relations", "spatial")


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return importlib.import_module(f"adm_core.losses.{name}")
    raise AttributeError(f"module 'adm_core.losses' has no attribute '{name}'")
