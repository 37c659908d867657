"""KOALA: self-attention features are what to distil of a denoiser (Lee et al., arXiv:2312.04005, NeurIPS 2024)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from adm_core.method import MethodCard
from adm_core.methods.bksdm import BKSDM
from adm_core.registry import register
from adm_core.settings import searched


@register
class Koala(BKSDM):
    """BK-SDM's loss on the outputs of self-attention layers instead of blocks.

    The paper's finding, put as a loss; its own training code is not released.
    """

    card = MethodCard(
        name="koala",
        title="KOALA (self-attention features)",
        paper="arXiv:2312.04005",
        year=2024,
        regimes=frozenset({"offline"}),
        family="features",
    )

    @dataclass(frozen=True)
    class Settings:
        """Weights as in BK-SDM.

        Attributes:
            taps: the attention layers; a Diffusers U-Net has one in the middle unless it is told otherwise.
            output: weight of the predictions' error.
            features: weight of the attention outputs' error.
        """

        taps: tuple[str, ...] = ("mid.attention",)
        output: Annotated[float, Field(ge=0)] = 1.0
        features: Annotated[float, Field(ge=0)] = searched(1.0, 0.1, 10.0)
