"""Mean Teacher: a student agrees with the moving average of its own weights (arXiv:1703.01780, NeurIPS 2017)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal, cast

from pydantic import Field

from adm_core import losses
from adm_core.method import Losses, Method, MethodCard, Needs, Step, View
from adm_core.registry import register
from adm_core.settings import searched

if TYPE_CHECKING:
    from torch import nn

    from adm_core.network_copy import NetworkCopy
    from adm_core.taps import Network


@register
class EMATeacher(Method):
    """``CE + weight · w · d(student, average)`` on labelled examples (Tarvainen, Valpola, arXiv:1703.01780, eq. 1).

    The average's weights follow ``a ← α_t a + (1 - α_t) θ`` after step t = 1, 2, ..., with
    ``α_t = min(1 - 1 / (t + 1), decay)``. It runs in training mode, with normalisation statistics of its own, as in the
    authors' code (CuriousAI/mean-teacher at 516ce35). d is the mean over classes of the
    squared difference of probabilities, or their KL divergence, mean over examples (and valid pixels); of denoisers
    the mean squared difference of predictions. w = exp(-5 (1 - t / ramp)²) rises over the first part of training.
    Where images are classified the average sees another augmentation of them (of pixels, other colours). It, not the
    student, is what is left after training.
    """

    card = MethodCard(
        name="ema-teacher",
        title="Mean Teacher",
        paper="arXiv:1703.01780",
        year=2017,
        regimes=frozenset({"offline"}),
        family="logits",
        deployed="moving average of the student",
        version=2,  # the average keeps normalisation statistics of its own
    )

    @dataclass(frozen=True)
    class Settings:
        """Defaults are the authors' on CIFAR-10 with every label: weight 100, ramp of 40,000 of 150,000 steps.

        Attributes:
            weight: of the consistency when fully risen.
            decay: largest α. The average looks back over about 1 / (1 - decay) steps: of a training of some hundred
                steps it keeps what the student was at its beginning, and a smaller decay is wanted.
            distance: of class probabilities.
            ramp: share of training over which w rises to 1.
        """

        weight: Annotated[float, Field(ge=0)] = searched(100.0, 10.0, 1000.0)
        decay: Annotated[float, Field(ge=0, lt=1)] = searched(0.999, 0.9, 0.999, scale="linear")
        distance: Literal["mse", "kl"] = "mse"
        ramp: Annotated[float, Field(ge=0, le=1)] = 4 / 15

    needs = Needs(
        views="own",
        copies={"average": "student"},
        training_copies=frozenset({"average"}),
        teacher=False,
        capabilities=frozenset({"own-views"}),
    )

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """One term, ``consistency``."""
        s, average = self.settings, step.copies["average"].prediction
        if student.kind == "denoiser":
            distance = (student.prediction - average).pow(2).mean()
        elif s.distance == "mse":
            distance = losses.logits.squared_probabilities(student.prediction, average, step.mask)
        else:
            distance = losses.logits.kl_divergence(student.prediction, average, mask=step.mask)
        return Losses(student={"consistency": s.weight * step.consistency_ramp(s.ramp) * distance})

    def after_step(self) -> None:
        """Let the average follow the student."""
        self._average.follow(lambda before: min(1 - 1 / (before + 2), self.settings.decay))

    def deployed(self, networks: Mapping[str, Network]) -> nn.Module:
        """The average."""
        return self._average.network

    @property
    def _average(self) -> NetworkCopy:
        return cast("NetworkCopy", self.parts["average"])
