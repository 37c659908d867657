"""Pure loss functions on tensors, each written once; a submodule, and torch with it, loads when first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adm_core.losses import (
        adversarial,
        branches,
        channels,
        contrast,
        corrections,
        correlations,
        cross_image,
        denoising,
        difficulty,
        directions,
        diversity,
        ensembles,
        examples,
        features,
        logits,
        partitions,
        preact,
        prototypes,
        relations,
        spatial,
        teachers,
        tokens,
        transport,
    )

__all__ = [
    "adversarial",
    "branches",
    "channels",
    "contrast",
    "corrections",
    "correlations",
    "cross_image",
    "denoising",
    "difficulty",
    "directions",
    "diversity",
    "ensembles",
    "examples",
    "features",
    "logits",
    "partitions",
    "preact",
    "prototypes",
    "relations",
    "spatial",
    "teachers",
    "tokens",
    "transport",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return importlib.import_module(f"adm_core.losses.{name}")
    raise AttributeError(f"module 'adm_core.losses' has no attribute '{name}'")
