"""DPK: dynamic prior knowledge, teacher features as part of the input (Qiu et al., arXiv:2206.06067, ICLR 2023)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, cast

from pydantic import Field

from adm_core import losses
from adm_core.method import Facts, Losses, Method, MethodCard, Needs, Shapes, Step, View
from adm_core.registry import register
from adm_core.settings import Tap, searched

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adm_core.memory import RunningMean

LEAST, MOST = 0.1, 0.95
"""Bounds of a share that is steered: the student is always asked for something, and always told something."""


@register
class DynamicPrior(Method):
    """``weight · mean_m (G(m · a(F_s) + (1 - m) · F_t) - F_t)²``: student and given teacher positions make the rest.

    m keeps each position of the student's map, brought to the teacher's width by the 1×1 convolution a (where widths
    differ), with probability r, and takes the teacher's there otherwise: its *prior knowledge*. G is a 3×3
    convolution, ReLU and another. The mean is over channels and those valid positions that are the student's. r follows
    the likeness of the two maps, ``r ← 0.9 r + 0.1 CKA(F_s, F_t)`` after each step
    (:func:`adm_core.losses.examples.linear_cka`), within [0.1, 0.95]: the teacher gives less as the student comes
    closer. ``dynamic=False`` is the control of a constant r; with r = 1 the teacher gives nothing. The paper adds KD:
    ``kd+dpk``.

    A reconstruction: the authors published no code. Verified (abstract, and what others say of the paper): teacher
    features are mixed into the student's, and CKA decides how many. Ours: convolutions in place of the attention that a
    known other implementation has, one stage, the error on the student's positions alone, and the bounds of r; its
    start and momentum are that implementation's.
    """

    card = MethodCard(
        name="dpk",
        title="Dynamic Prior Knowledge (reconstruction)",
        paper="arXiv:2206.06067",
        year=2022,
        regimes=frozenset({"offline"}),
        family="features",
    )

    @dataclass(frozen=True)
    class Settings:
        """Weight and tap are our choice.

        Attributes:
            tap: the maps' place.
            weight: of the term.
            ratio: r at the start: the share of positions that stay the student's; at 1 the teacher gives none, which is
                a control and not searched.
            dynamic: whether r follows CKA.
            momentum: of r.
        """

        tap: Tap = "last"
        weight: Annotated[float, Field(ge=0)] = searched(1.0, 0.1, 10.0)
        ratio: Annotated[float, Field(gt=0, le=1)] = searched(
            0.5, 0.1, 1.0, scale="linear", acts=lambda s, _: s.dynamic or s.ratio < 1
        )
        dynamic: bool = True
        momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9

    _seen: tuple[Tensor, ...] = ()

    @property
    def needs(self) -> Needs:  # type: ignore[override]
        """Feature maps at corresponding positions."""
        memory = {"memory"} if self.settings.dynamic else set()
        return Needs(taps=(self.settings.tap,), views="shared", capabilities=frozenset({"trainable-parts"} | memory))

    def supports(self, student: Shapes, teacher: Shapes, regime: str) -> str | None:
        """The tap must be a map."""
        from adm_core import align

        return align.why_not_maps(self.needs.taps, student, teacher)

    def build(self, student: Shapes, teacher: Shapes, facts: Facts) -> dict[str, nn.Module]:
        """The 1×1 convolution, the generator, and what remembers r."""
        from adm_core import align
        from adm_core.memory import RunningMean

        s, own, width = self.settings, student[self.settings.tap][1], teacher[self.settings.tap][1]
        self._seen = ()
        return {
            "adapter": align.make_width_adapter(own, width, bias=True),
            "generator": align.make_generator(width),
            "ratio": RunningMean(s.ratio, s.momentum),
        }

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """One term, ``restored``; logs ``ratio``, r."""
        from adm_core import align

        s, ratio = self.settings, cast("RunningMean", self.parts["ratio"]).value.clone()
        own, target = align.match_size(student.features[s.tap], teacher.detached().features[s.tap])
        if s.dynamic:
            self._seen += (losses.examples.linear_cka(own.detach(), target, step.mask),)
        aligned = self.parts["adapter"](own)
        kept = losses.features.random_keep(aligned, 1 - ratio, "positions", step.generator)
        restored = self.parts["generator"](kept * aligned + (1 - kept) * target)
        mean, asked = losses.spatial.masked_mean, kept[:, 0]
        error = mean((restored - target).pow(2).mean(1) * asked, step.mask) / mean(asked, step.mask).clamp_min(1e-6)
        return Losses(student={"restored": s.weight * error}, log={"ratio": ratio})

    def after_step(self) -> None:
        """Let r follow the step's batches."""
        import torch

        if self._seen:
            ratio = cast("RunningMean", self.parts["ratio"])
            ratio.update(torch.stack(self._seen).mean())
            ratio.value.clamp_(LEAST, MOST)
        self._seen = ()
