"""FT: paraphrasing complex network, network compression via factor transfer (Kim et al., arXiv:1802.04977)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain, pairwise
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from adm_core import losses
from adm_core.method import Facts, Losses, Method, MethodCard, Needs, Phase, Shapes, Step, View
from adm_core.registry import register
from adm_core.settings import Tap, searched

if TYPE_CHECKING:
    from torch import nn

PARAPHRASER = "paraphraser"
"""The phase in which the teacher's map is learnt to be put in fewer channels."""


@register
class FactorTransfer(Method):
    """Teacher and student are compared after small translators, not map against map (arXiv:1802.04977).

    In the phase ``paraphraser`` an auto-encoder of three convolutions and three transposed ones learns to rebuild the
    teacher's map, by mean squared error, and the student rests. What its encoder makes of the map are the teacher's
    factors. Afterwards a translator of three convolutions on the student's map is trained with the student by
    ``weight · mean |f_s / ‖f_s‖ - f_t / ‖f_t‖|``, eq. 4 with p = 1, the larger factors pooled to the smaller's size.
    Both have ``rate`` times the teacher's channels; leaky ReLUs with slope 0.1 follow each convolution, and in the
    translator batch normalisation goes before them. The recipe's schedule runs once over both phases.
    """

    card = MethodCard(
        name="ft",
        title="Factor Transfer",
        paper="arXiv:1802.04977",
        year=2018,
        regimes=frozenset({"offline"}),
        family="features",
    )

    @dataclass(frozen=True)
    class Settings:
        """Defaults are the paper's on CIFAR-100; the first phase is as long as RepDistiller's, 30 epochs before 240.

        Attributes:
            tap: the map of both networks.
            share: of training that is the first phase.
            rate: channels of the factors, in parts of the teacher's.
            factor: what is normalised and compared: the whole ``tensor`` of an image, as in the paper, or its
                ``attention``, the channels' mean square at each position, as RepDistiller has it with weight 200.
            weight: of the distance of factors.
        """

        tap: Tap = "last"
        share: Annotated[float, Field(gt=0, lt=1)] = 0.125
        rate: Annotated[float, Field(gt=0, le=1)] = 0.5
        factor: Literal["tensor", "attention"] = "tensor"
        weight: Annotated[float, Field(ge=0)] = searched(500.0, 50.0, 5000.0)

    @property
    def needs(self) -> Needs:  # type: ignore[override]
        """One map of each network, and a first phase for the auto-encoder."""
        first = Phase(PARAPHRASER, share=self.settings.share, trains=("method",))
        trained = frozenset({"trainable-parts"})
        return Needs(taps=(self.settings.tap,), views="shared", capabilities=trained, phases=(first,))

    def supports(self, student: Shapes, teacher: Shapes, regime: str) -> str | None:
        """The tap must be a map."""
        from adm_core import align

        return align.why_not_maps((self.settings.tap,), student, teacher)

    def build(self, student: Shapes, teacher: Shapes, facts: Facts) -> dict[str, nn.Module]:
        """The paraphraser's two halves and the student's translator."""
        from torch import nn

        from adm_core import align

        own, width = student[self.settings.tap][1], teacher[self.settings.tap][1]
        factors = max(round(self.settings.rate * width), 1)
        down, up = (width, width, factors, factors), (factors, factors, width, width)
        return {
            "encoder": _chain(nn.Conv2d, down),
            "decoder": _chain(nn.ConvTranspose2d, up),
            "translator": align.make_translator(own, own, factors, factors),
        }

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """One term: ``reconstruction`` in the first phase, ``factors`` afterwards."""
        import torch

        from adm_core import align

        s, given = self.settings, teacher.detached().features[self.settings.tap]
        if step.phase == PARAPHRASER:
            rebuilt = self.parts["decoder"](self.parts["encoder"](given))
            error = losses.spatial.masked_mean((rebuilt - given).square().mean(1), step.mask)
            return Losses(parts={"reconstruction": error}, student_task=0.0)
        with torch.no_grad():
            target = self.parts["encoder"](given)
        own, target = align.match_size(self.parts["translator"](student.features[s.tap]), target)
        distance = losses.features.factor_distance(own, target, s.factor, step.mask)
        return Losses(student={"factors": s.weight * distance})


def _chain(convolution: type[nn.Conv2d] | type[nn.ConvTranspose2d], widths: tuple[int, ...]) -> nn.Module:
    from torch import nn

    pairs = ((convolution(before, after, 3, padding=1), nn.LeakyReLU(0.1)) for before, after in pairwise(widths))
    return nn.Sequential(*chain.from_iterable(pairs))
