"""PEFD: feature distillation through an ensemble of projectors (Chen et al., arXiv:2210.15274, NeurIPS 2022)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from adm_core import losses
from adm_core.method import Facts, Losses, Method, MethodCard, Needs, Shapes, Step, View
from adm_core.registry import register
from adm_core.settings import Tap, searched

if TYPE_CHECKING:
    from torch import nn


@register
class ProjectorEnsemble(Method):
    """``weight · mean_b (1 - cos(1/q Σ_k ReLU(W_k f_s + b_k), f_t))``: the direction of the mean of q projections.

    (arXiv:2210.15274.) Projectors differ in what they begin with alone; one of them is the usual
    projector. Their script for CIFAR-100 adds no KD, which their
    code provides for: ``kd+pefd``. Of a map the mean over valid positions is
    an example's vector.
    """

    card = MethodCard(
        name="pefd",
        title="Projector Ensemble Feature Distillation",
        paper="arXiv:2210.15274",
        year=2022,
        regimes=frozenset({"offline"}),
        family="features",
    )

    @dataclass(frozen=True)
    class Settings:
        """Defaults are the authors' on CIFAR-100, for ResNet-32x4 and ResNet-8x4.

        Attributes:
            tap: an example's vector, or a map to average; denoisers, which have no such classifier, have ``mid``.
            weight: of the term.
            projectors: q.
        """

        tap: Tap = "penultimate"
        weight: Annotated[float, Field(ge=0)] = searched(25.0, 2.5, 250.0)
        projectors: Annotated[int, Field(ge=1)] = 3

    @property
    def needs(self) -> Needs:  # type: ignore[override]
        """One tap of both networks on the same examples."""
        return Needs(taps=(self.settings.tap,), capabilities=frozenset({"trainable-parts"}))

    def build(self, student: Shapes, teacher: Shapes, facts: Facts) -> dict[str, nn.Module]:
        """The projectors to the teacher's width."""
        from torch import nn

        own, width = student[self.settings.tap][1], teacher[self.settings.tap][1]
        each = (nn.Sequential(nn.Linear(own, width), nn.ReLU()) for _ in range(self.settings.projectors))
        return {"projectors": nn.ModuleList(each)}

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """One term, ``direction``."""
        s, projectors = self.settings, self.parts["projectors"]
        own, known = losses.examples.pooled(student.features[s.tap], step.mask)
        target, _ = losses.examples.pooled(teacher.detached().features[s.tap], step.mask)
        mean = sum(projector(own) for projector in projectors) / s.projectors  # type: ignore[attr-defined]
        cosine = (losses.features.unit(mean) * losses.features.unit(target)).sum(1)
        return Losses(student={"direction": s.weight * losses.spatial.masked_mean(1 - cosine, known)})
