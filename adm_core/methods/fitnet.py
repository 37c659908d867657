"""FitNets: regress an intermediate feature map of the teacher (Romero et al., arXiv:1412.6550)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from adm_core import losses
from adm_core.card import HINT
from adm_core.method import Facts, Losses, Method, MethodCard, Needs, Shapes, Step, View
from adm_core.registry import register
from adm_core.settings import Tap, searched

if TYPE_CHECKING:
    from torch import nn


@register
class FitNet(Method):
    """``weight · mean (r(F_s) - F_t)²`` with a trained convolutional regressor r (arXiv:1412.6550, eq. 3).

    One-stage training, hint and task together, as RepDistiller and mdistiller run it.
    """

    card = MethodCard(
        name="fitnet",
        title="FitNets",
        paper="arXiv:1412.6550",
        year=2015,
        regimes=frozenset({"offline"}),
        family="features",
        version=2,
    )

    @dataclass(frozen=True)
    class Settings:
        """Defaults are those of RepDistiller and mdistiller on CIFAR-100.

        Attributes:
            tap: the hinted map; theirs is the third of a network's list, its ``hint`` here.
            weight: of the term.
            regressor: ``conv-bn-relu``, of whatever size the maps ask for; or ``conv``, a bare 1×1 convolution without
                bias between maps of one size, as CIRKD has it in segmentation (there at what the classifier reads, with
                weight 10).
        """

        tap: Tap = HINT
        weight: Annotated[float, Field(ge=0)] = searched(100.0, 0.1, 1000.0)
        regressor: Literal["conv-bn-relu", "conv"] = "conv-bn-relu"

    @property
    def needs(self) -> Needs:  # type: ignore[override]
        """The hinted map of both networks, at corresponding positions."""
        return Needs(taps=(self.settings.tap,), views="shared", capabilities=frozenset({"trainable-parts"}))

    def supports(self, student: Shapes, teacher: Shapes, regime: str) -> str | None:
        """Maps must be spatial, and the student's not smaller in an odd ratio; of one size for a 1×1 convolution."""
        from adm_core import align

        s, t = student[self.settings.tap], teacher[self.settings.tap]
        if self.settings.regressor == "conv" and len(s) == len(t) == 4 and s[2:] != t[2:]:
            return f"regressor 'conv' needs maps of one size at {self.settings.tap}, not {s[2:]} and {t[2:]}"
        return align.why_no_regressor(self.settings.tap, student, teacher)

    def build(self, student: Shapes, teacher: Shapes, facts: Facts) -> dict[str, nn.Module]:
        """The regressor."""
        from torch import nn

        from adm_core import align

        s, t = student[self.settings.tap], teacher[self.settings.tap]
        if self.settings.regressor == "conv":
            return {"regressor": nn.Conv2d(s[1], t[1], 1, bias=False)}
        return {"regressor": align.make_hint_regressor(s, t)}

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """One term, ``hint``."""
        hint = teacher.detached().features[self.settings.tap]
        guess = self.parts["regressor"](student.features[self.settings.tap])
        error = losses.spatial.masked_mean((guess - hint).pow(2).mean(1), step.mask)
        return Losses(student={"hint": self.settings.weight * error})
