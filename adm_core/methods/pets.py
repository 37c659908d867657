"""PETS: a student exchanges its weights with a static teacher, a dynamic one follows it (Liu et al., 2311.13930)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal, cast

from pydantic import Field

from adm_core import losses
from adm_core.method import Facts, Losses, Method, MethodCard, Needs, Shapes, Step, View
from adm_core.registry import register
from adm_core.settings import searched

if TYPE_CHECKING:
    from torch import nn

    from adm_core.memory import Counter
    from adm_core.network_copy import NetworkCopy
    from adm_core.taps import Network


@register
class PeriodicExchange(Method):
    """``CE + weight · KL(q || p)``, q the teacher's probabilities, averaged with what two other teachers agree on.

    The two are of the student's architecture. The *static* one rests, and changes places with the student ``exchanges``
    times at even distances once the warm-up is over: weights, buffers and what the optimiser keeps of them. The
    *dynamic* one becomes ``decay · dynamic + (1 - decay) · student`` after each step, and is what is left after
    training. Where both name one class, each surer than ``confidence``, q is the mean of the frozen teacher's
    probabilities and theirs (:func:`adm_core.losses.teachers.consensus`); elsewhere q is the frozen teacher's. In the
    warm-up both are copies of the student and not asked. The teachers see another augmentation than the student. With
    ``adapt`` KL is of shifted pictures without labels, which all see alike, and CE stays that of labelled pictures.
    ``flow`` is the control: ``one-way`` lets the static teacher take the student's weights and gives none back,
    ``none`` leaves it as it is after the warm-up.

    A port from source-free object detection. Verified (paper): the three networks, the exchange, its period of one of
    ten epochs after two of warm-up, the moving average, consensus and its threshold. Ours: classes in the place of
    boxes; the large frozen teacher and the source's labels, also with ``adapt``, neither of which source-free
    adaptation has; the optimiser's state, of which the paper does not speak.
    """

    card = MethodCard(
        name="pets",
        title="Periodically Exchange Teacher-Student (port from detection)",
        paper="arXiv:2311.13930",
        year=2023,
        regimes=frozenset({"offline"}),
        family="logits",
        deployed="moving average of the student",
        version=2,  # statistics of the moving average are averaged as its weights are
    )

    @dataclass(frozen=True)
    class Settings:
        """Defaults are the paper's; the weight is our choice.

        Attributes:
            weight: of the divergence.
            confidence: least probability of the class that each teacher names, δ.
            decay: α. It looks back over about 1 / (1 - α) steps: of a training of some hundred steps take less.
            warmup: share of training before the first exchange.
            exchanges: how many there are.
            flow: between student and static teacher.
            adapt: to pictures without labels.
        """

        weight: Annotated[float, Field(ge=0)] = searched(1.0, 0.1, 10.0)
        confidence: Annotated[float, Field(ge=0, lt=1)] = searched(0.5, 0.0, 0.95, scale="linear")
        decay: Annotated[float, Field(ge=0, lt=1)] = searched(0.999, 0.9, 0.999, scale="linear")
        warmup: Annotated[float, Field(ge=0, lt=1)] = 0.2
        exchanges: Annotated[int, Field(ge=1)] = 8
        flow: Literal["exchange", "one-way", "none"] = "exchange"
        adapt: bool = False

    _due = 0

    @property
    def needs(self) -> Needs:  # type: ignore[override]
        """Two copies of the student and views of their own; to adapt, pictures without labels."""
        copies, own = {"static": "student", "dynamic": "student"}, frozenset({"own-views"})
        return Needs("class_logits", views="own", copies=copies, capabilities=own, unlabelled=self.settings.adapt)

    def build(self, student: Shapes, teacher: Shapes, facts: Facts) -> dict[str, nn.Module]:
        """What counts the exchanges."""
        from adm_core.memory import Counter

        return {"exchanges": Counter()}

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """One term, ``teachers``; logs the share of examples or pixels that are ``agreed`` on."""
        import torch

        from adm_core import align

        s, known, mask = self.settings, None, step.mask
        if s.adapt:
            student, teacher, mask = step.unlabelled["student"], step.unlabelled["teacher"], None
        passed = (step.progress - s.warmup) / (1 - s.warmup)
        self._due = int(passed * s.exchanges) + 1 if passed >= 0 else 0
        target = teacher.detached().prediction.softmax(1)
        if self._due:
            shown = step.batch.unlabelled_input
            static, dynamic = (
                align.match_predictions(teacher.prediction, self.parts[name](shown))[1]
                if s.adapt
                else step.copies[name].prediction
                for name in ("static", "dynamic")
            )
            fused, known = losses.teachers.consensus(static, dynamic, s.confidence)
            target = torch.where(known[:, None], (target + fused) / 2, target)
        term = losses.spatial.masked_mean(losses.teachers.kl_of(student.prediction, target), mask)
        share = target.new_zeros(()) if known is None else known.to(target.dtype).mean()
        return Losses(student={"teachers": s.weight * term}, log={"agreed": share})

    def after_step(self) -> None:
        """Let the dynamic teacher follow, and the static one change places with the student when that is due."""
        static, dynamic = (cast("NetworkCopy", self.parts[name]) for name in ("static", "dynamic"))
        done = cast("Counter", self.parts["exchanges"])
        dynamic.follow(self.settings.decay if self._due else 0.0)
        if not self._due:
            static.follow()
        elif self._due > done.count:
            done.count = self._due
            if self.settings.flow == "exchange":
                static.exchange()
            elif self.settings.flow == "one-way":
                static.follow()

    def deployed(self, networks: Mapping[str, Network]) -> nn.Module:
        """The dynamic teacher."""
        return cast("NetworkCopy", self.parts["dynamic"]).network
