"""SemCKD: cross-layer distillation with semantic calibration (Chen et al., arXiv:2012.03236, AAAI 2021)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from adm_core import losses
from adm_core.card import ALL_STAGES, members
from adm_core.method import Facts, Losses, Method, MethodCard, Needs, Shapes, Step, View
from adm_core.registry import register
from adm_core.settings import searched

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn


@register
class SemanticCalibration(Method):
    """``weight · mean_b mean_s Σ_t a_b,st · mean (p_st(F_s) - F_t)²``: each stage learns from the stages that fit it.

    The attention a_b over the teacher's stages t is, for example b and the student's stage s, the softmax of the
    cosines between a query and keys: row b of ``Q Qᵀ`` [B, B], Q the flattened maps of a stage, through a network of
    two layers (arXiv:2012.03236, section 3). p_st are 1×1, 3×3 and 1×1 convolutions for each pair of stages; the
    larger map is average-pooled to the smaller one's size. The two layers read as many neighbours as a batch has
    examples; what a smaller batch lacks is zero. A row's order is that of the batch, which is random.
    """

    card = MethodCard(
        name="semckd",
        title="Semantic Calibration for Cross-layer Knowledge Distillation",
        paper="arXiv:2012.03236",
        year=2021,
        regimes=frozenset({"offline"}),
        family="features",
    )

    @dataclass(frozen=True)
    class Settings:
        """Defaults are the authors' on CIFAR-100, who add KD with weight 1: ``kd+semckd``.

        Attributes:
            taps: the stages of both networks.
            weight: of the term.
            factor: by how much queries and keys are narrower than a batch is long.
        """

        taps: tuple[str, ...] = (ALL_STAGES,)
        weight: Annotated[float, Field(ge=0)] = searched(400.0, 4.0, 4000.0)
        factor: Annotated[int, Field(ge=1)] = 4

    @property
    def needs(self) -> Needs:  # type: ignore[override]
        """Feature maps of the stages, at corresponding positions."""
        return Needs(taps=tuple(self.settings.taps), views="shared", capabilities=frozenset({"trainable-parts"}))

    def supports(self, student: Shapes, teacher: Shapes, regime: str) -> str | None:
        """Every tap must be a spatial map."""
        from adm_core import align

        return align.why_not_maps(self.settings.taps, student, teacher)

    def build(self, student: Shapes, teacher: Shapes, facts: Facts) -> dict[str, nn.Module]:
        """Queries of the student's stages, keys of the teacher's, and a projector for each pair, by rows of pairs."""
        from torch import nn

        taps, length = members(self.settings.taps, student), facts.batch_size
        inner = max(length // self.settings.factor, 1)

        def embeddings() -> nn.ModuleList:
            layers = ((nn.Linear(length, 2 * inner), nn.ReLU(), nn.Linear(2 * inner, inner)) for _ in taps)
            return nn.ModuleList(nn.Sequential(*each) for each in layers)

        pairs = ((student[own][1], teacher[other][1]) for own in taps for other in taps)
        projectors = nn.ModuleList(_projector(*widths) for widths in pairs)
        return {"query": embeddings(), "key": embeddings(), "projectors": projectors}

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """One term, ``calibrated``."""
        import torch

        from adm_core import align

        own, fixed = student.maps(self.settings.taps), teacher.detached().maps(self.settings.taps)
        projectors = iter(self.parts["projectors"])  # type: ignore[call-overload]
        errors = []
        for ours, theirs in ((s, t) for s in own for t in fixed):
            near, target = align.match_size(ours, theirs)
            error = (next(projectors)(near) - target).pow(2).mean(1, keepdim=True)
            each, known = losses.examples.pooled(error, step.mask)
            errors.append(each)
        attention = self._embed("query", own, step) @ self._embed("key", fixed, step).transpose(1, 2)
        weighted = attention.softmax(2) * torch.cat(errors, 1).view_as(attention)
        total = losses.spatial.masked_mean(weighted.sum(2).mean(1), known)
        return Losses(student={"calibrated": self.settings.weight * total})

    def _embed(self, part: str, maps: Sequence[Tensor], step: Step) -> Tensor:
        """Queries or keys of length one, [B, stages, inner]."""
        import torch
        import torch.nn.functional as F

        rows = (losses.examples.activation_gram(each, step.mask) for each in maps)
        found = []
        for layers, row in zip(self.parts[part], rows, strict=True):  # type: ignore[call-overload]
            found.append(layers(F.pad(row, (0, layers[0].in_features - row.shape[1]))))
        return losses.features.unit(torch.stack(found, 1), dim=2)


def _projector(own: int, width: int) -> nn.Module:
    from torch import nn

    inner = 2 * width
    first, second = nn.Conv2d(own, inner, 1, bias=False), nn.Conv2d(inner, inner, 3, padding=1, bias=False)
    rest = (nn.BatchNorm2d(inner), nn.ReLU(), nn.Conv2d(inner, width, 1, bias=False))
    return nn.Sequential(first, nn.BatchNorm2d(inner), nn.ReLU(), second, *rest)
