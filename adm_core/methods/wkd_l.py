"""WKD-L: Wasserstein distance between class probabilities (Lv, Yang, Li, arXiv:2412.08139, NeurIPS 2024)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from adm_core import losses
from adm_core.method import Facts, Losses, Method, MethodCard, Needs, Shapes, Step, View
from adm_core.registry import register
from adm_core.settings import Tap, searched

if TYPE_CHECKING:
    from torch import Tensor

    from adm_core.batch import Batch


@register
class WKDL(Method):
    """``CE - mean p_t,y log p_s,y + weight · mean OT(q_s, q_t)`` (arXiv:2412.08139, section 3.1).

    q are the probabilities of all classes but the target's y, renormalised, at temperature T. OT is the cost of the
    entropic transport plan after a fixed number of Sinkhorn's iterations, gradients through them; to move from class
    i to class j costs ``1 - exp(-sharpness · (1 - CKA_ij))`` with the linear CKA of the frozen teacher's vectors of
    both classes, taken from one pass over the training set. No factor T². The weight falls to zero along a cosine
    from ``decay_from`` on. Where classes are little alike, so that costs are many times ε, the published ten iterations
    end far from the optimal plan: its second marginal is not the teacher's, and the cost is too small.

    The paper's vectors are what the classifier reads; the matrices that its code ships are of the logits (``tap:
    logits``). Of dense predictions a class's vector is the mean over its pixels in an image, and the loss is that of
    each pixel.
    """

    card = MethodCard(
        name="wkd-l",
        title="Wasserstein Distance Distillation of Logits",
        paper="arXiv:2412.08139",
        year=2024,
        regimes=frozenset({"offline"}),
        family="logits",
    )

    @dataclass(frozen=True)
    class Settings:
        """Defaults are the authors' on CIFAR-100, resnet32x4 > resnet8x4 (ImageNet: weight 30, T = 2).

        Attributes:
            weight: of the transport.
            temperature: T.
            entropy: ε of the transport plan.
            iterations: of Sinkhorn's algorithm.
            sharpness: κ of the cost.
            tap: the teacher's vectors.
            samples: most vectors of a class that its CKA is taken of; 500 is every training image of CIFAR-100.
            decay_from: share of training after which the weight falls; epoch 150 of 240.
        """

        weight: Annotated[float, Field(ge=0)] = searched(600.0, 6.0, 6000.0)
        temperature: Annotated[float, Field(gt=0)] = searched(8.0, 1.0, 16.0)
        entropy: Annotated[float, Field(ge=0.0125)] = 0.05
        iterations: Annotated[int, Field(ge=1)] = 10
        sharpness: Annotated[float, Field(gt=0)] = 1.0
        tap: Tap = "penultimate"
        samples: Annotated[int, Field(ge=2)] = 500
        decay_from: Annotated[float, Field(ge=0, le=1)] = 0.625

    @property
    def needs(self) -> Needs:  # type: ignore[override]
        """Class logits, and the teacher's vectors of the training set."""
        return Needs("class_logits", taps=(self.settings.tap,), teacher_pass=True)

    def supports(self, student: Shapes, teacher: Shapes, regime: str) -> str | None:
        """Vectors of pixels come from maps."""
        if len(teacher["prediction"]) == 4 and len(teacher[self.settings.tap]) != 4:
            return f"tap {self.settings.tap} of the teacher is not a feature map [B, C, H, W]"
        return None

    def prepare(self, shown: Iterator[tuple[View, Batch]], facts: Facts) -> dict[str, Tensor]:
        """``interrelation``: CKA of every two classes, [K, K]."""
        assert facts.classes is not None
        found = losses.transport.ClassSamples(facts.classes, self.settings.samples)
        for view, batch in shown:
            features = view.features[self.settings.tap]
            found.add(*losses.transport.class_means(features, batch.target, batch.mask, facts.classes))
        return {"interrelation": found.interrelations()}

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """Terms ``target`` and ``transport``."""
        s, own, other = self.settings, student.prediction, teacher.detached().prediction
        cost = 1 - (-s.sharpness * (1 - self.statistics["interrelation"])).exp()
        moved = losses.transport.transport_loss(
            own, other, step.target, cost, s.temperature, s.entropy, s.iterations, step.mask
        )
        terms = {
            "target": losses.logits.target_cross_entropy(own, other, step.target, step.mask),
            "transport": s.weight * self._share(step.progress) * moved,
        }
        return Losses(student=terms)

    def _share(self, progress: float) -> float:
        """What of the weight is left at a share of training."""
        start = self.settings.decay_from
        if progress <= start:
            return 1.0
        return (1 + math.cos(math.pi * (progress - start) / (1 - start))) / 2
