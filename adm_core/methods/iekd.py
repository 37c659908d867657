"""IE-KD: half of the student's features inherit the teacher's, half explore others (Huang et al., arXiv:2107.00181)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from adm_core import losses
from adm_core.method import Facts, Losses, Method, MethodCard, Needs, Phase, Shapes, Step, View
from adm_core.registry import register
from adm_core.settings import Tap, searched

if TYPE_CHECKING:
    from torch import nn

AUTO_ENCODER = "auto-encoder"
"""The phase in which the teacher's factors are learnt."""


@register
class InheritanceExploration(Method):
    """``inherit_weight · d(E_i(F_s'), E_t(F_t)) - explore_weight · d(E_e(F_s''), E_t(F_t))`` of a map's two halves.

    In the phase ``auto-encoder`` an encoder E_t and a decoder of the teacher's map alone train, by the mean absolute
    error of what is restored; the networks rest. Then the teacher's factors E_t(F_t) are fixed; the first half F_s' of
    the student's channels, through an encoder of its own, must come close to them, the other, F_s'', must not. d is the
    mean absolute difference of factors scaled to length one, each as a whole map; where pixels are classified at every
    position (:func:`adm_core.losses.features.factor_distance`), which bounds the second term. An encoder is three
    3×3 convolutions with batch norm and LeakyReLU (0.1). Larger maps are pooled to the smaller size.
    ``explore_weight=0`` is the control that inherits alone. The recipe's schedule runs once; the authors start it anew.

    A port. Verified (the authors' code): halves, encoders, phase, both terms and their weights. Ours: halves are in the
    channels' order, where the authors also permute them once; the auto-encoder's widths are those of factor transfer.
    Left out: two networks that learn so from each other, and other distances in d's place.
    """

    card = MethodCard(
        name="iekd",
        title="Inheritance and Exploration (port)",
        paper="arXiv:2107.00181",
        year=2021,
        regimes=frozenset({"offline"}),
        family="features",
    )

    @dataclass(frozen=True)
    class Settings:
        """Defaults are the authors' on CIFAR, where 30 epochs go before 160.

        Attributes:
            tap: the maps' place; theirs is the last stage.
            inherit_weight: of the first term. Whole maps differ by little so: RepDistiller's is 200 in factor transfer.
            explore_weight: of the second term.
            share: of training that is the first phase.
            factor: by how much a factor is narrower than the teacher's map.
        """

        tap: Tap = "last"
        inherit_weight: Annotated[float, Field(ge=0)] = searched(1.0, 0.1, 500.0)
        explore_weight: Annotated[float, Field(ge=0)] = searched(1.0, 0.1, 500.0)
        share: Annotated[float, Field(gt=0, lt=1)] = 30 / 190
        factor: Annotated[int, Field(ge=1)] = 2

    @property
    def needs(self) -> Needs:  # type: ignore[override]
        """Feature maps at corresponding positions, and a first phase."""
        first, learns = Phase(AUTO_ENCODER, self.settings.share, trains=("method",)), frozenset({"trainable-parts"})
        return Needs(taps=(self.settings.tap,), views="shared", capabilities=learns, phases=(first,))

    def supports(self, student: Shapes, teacher: Shapes, regime: str) -> str | None:
        """The tap must be a map, with channels to divide."""
        from adm_core import align

        (own, width), factor = (shapes[self.settings.tap][1] for shapes in (student, teacher)), self.settings.factor
        few = own < 2 or width < factor
        told = f"IE-KD divides {own} channels by 2 and {width} by {factor}, which are too few" if few else None
        return align.why_not_maps((self.settings.tap,), student, teacher) or told

    def build(self, student: Shapes, teacher: Shapes, facts: Facts) -> dict[str, nn.Module]:
        """The teacher's encoder and decoder, and the encoders of the student's halves."""
        from torch import nn

        from adm_core import align

        own, width = student[self.settings.tap][1], teacher[self.settings.tap][1]
        narrow, half = width // self.settings.factor, own // 2
        decoder = nn.Sequential(align.make_translator(narrow, narrow, width), nn.Conv2d(width, width, 3, padding=1))
        encoders = {"teacher": width, "inheritance": half} | (
            {"exploration": own - half} if self.settings.explore_weight else {}
        )
        return {
            "decoder": decoder,
            **{name: align.make_translator(w, w, narrow, narrow) for name, w in encoders.items()},
        }

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """``reconstruction`` of the parts in the first phase, then terms ``inheritance`` and ``exploration``."""
        from adm_core import align

        s, learning = self.settings, step.phase == AUTO_ENCODER
        own, fixed = align.match_size(student.features[s.tap], teacher.detached().features[s.tap])
        factors = self.parts["teacher"].train(learning)(fixed)
        if learning:
            error = (self.parts["decoder"](factors) - fixed).abs().mean(1)
            return Losses(parts={"reconstruction": losses.spatial.masked_mean(error, step.mask)}, student_task=0.0)
        dense, half = student.kind == "class_logits" and student.prediction.dim() == 4, own.shape[1] // 2
        halves = {"inheritance": (own[:, :half], s.inherit_weight)}
        if s.explore_weight:
            halves["exploration"] = own[:, half:], -s.explore_weight
        factor: Literal["positions", "tensor"] = "positions" if dense else "tensor"
        distance = partial(losses.features.factor_distance, teacher=factors.detach(), factor=factor, mask=step.mask)
        return Losses(student={name: weight * distance(self.parts[name](x)) for name, (x, weight) in halves.items()})
