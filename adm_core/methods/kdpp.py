"""KD++: the student's vectors must be as long as the teacher's and point to its class means (arXiv:2305.17007)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from adm_core import losses
from adm_core.method import Facts, Losses, Method, MethodCard, Needs, Shapes, Step, View
from adm_core.registry import register
from adm_core.settings import searched

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adm_core.batch import Batch


@register
class NormAndDirection(Method):
    """``CE + ramp · kd_weight · KD_T + weight · mean (1 - <f_s, c_y / |c_y|> / max(|f_s|, |f_t|))``.

    f is what the classifier reads, c_y [C] the mean of the frozen teacher's f over the training examples of class y,
    from one pass (arXiv:2305.17007, section 3). A linear layer brings f_s to the teacher's width where they differ.
    With ``kd_weight: 0`` it composes: ``dkd+kdpp`` is the paper's DKD++. Of dense predictions f are those of each
    pixel, the larger map average-pooled, and c_y is the mean over images of the class's mean over its pixels.
    """

    card = MethodCard(
        name="kdpp",
        title="KD++",
        paper="arXiv:2305.17007",
        year=2023,
        regimes=frozenset({"offline"}),
        family="features",
    )
    needs = Needs("class_logits", taps=("penultimate",), teacher_pass=True, capabilities=frozenset({"trainable-parts"}))

    @dataclass(frozen=True)
    class Settings:
        """Defaults are those of the authors' code on CIFAR-100, whose weight is between 1 and 4 by pair.

        Attributes:
            weight: of norm and direction.
            kd_weight: of KD's divergence; 0 leaves it out.
            temperature: T.
            warmup: share of training in which KD rises to its full weight; 20 of 240 epochs.
        """

        weight: Annotated[float, Field(ge=0)] = searched(1.0, 0.1, 10.0)
        kd_weight: Annotated[float, Field(ge=0)] = searched(1.0, 0.1, 10.0)
        temperature: Annotated[float, Field(gt=0)] = searched(4.0, 1.0, 8.0, acts=lambda s, _: s.kd_weight > 0)
        warmup: Annotated[float, Field(ge=0, le=1)] = 20 / 240

    def build(self, student: Shapes, teacher: Shapes, facts: Facts) -> dict[str, nn.Module]:
        """The linear layer to the teacher's width; none where widths agree."""
        from torch import nn

        own, width = student["penultimate"][1], teacher["penultimate"][1]
        return {"embedding": nn.Identity() if own == width else nn.Linear(own, width)}

    def prepare(self, shown: Iterator[tuple[View, Batch]], facts: Facts) -> dict[str, Tensor]:
        """``centres``: the mean vector of each class, [K, C]; zeros for one without examples."""
        import torch

        assert facts.classes is not None
        sums: Tensor | float = 0.0
        counts: Tensor | float = 0.0
        for view, batch in shown:
            vectors = view.features["penultimate"]
            rows, labels, there = losses.transport.class_means(vectors, batch.target, batch.mask, facts.classes)
            member = (labels[:, None] == torch.arange(facts.classes, device=labels.device)) & there[:, None]
            sums, counts = sums + member.T.to(rows) @ rows, counts + member.sum(0)
        assert not isinstance(counts, float)
        return {"centres": sums / counts.clamp_min(1)[:, None]}

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """Terms ``kd`` and ``direction``."""
        from adm_core import align

        s, target, terms = self.settings, teacher.detached(), {}
        if s.kd_weight:
            kd = losses.logits.kl_divergence(student.prediction, target.prediction, s.temperature, step.mask)
            terms["kd"] = step.ramp(s.warmup) * s.kd_weight * kd
        own, other = student.features["penultimate"], target.features["penultimate"]
        if own.dim() == 4:
            own, other = align.match_size(own, other)
        own = self.parts["embedding"](own.movedim(1, -1)).movedim(-1, 1)
        centres = self.statistics["centres"]
        found = losses.directions.norm_and_direction(own, other, centres, step.target, step.mask)
        return Losses(student=terms | {"direction": s.weight * found})
