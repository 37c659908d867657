"""ReviewKD: distillation via knowledge review (Chen et al., arXiv:2104.09044, CVPR 2021)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from adm_core import losses
from adm_core.card import ALL_STAGES, PREACTS, members
from adm_core.method import Facts, Losses, Method, MethodCard, Needs, Shapes, Step, View
from adm_core.registry import register
from adm_core.settings import searched

if TYPE_CHECKING:
    from torch import Tensor, nn

END = "penultimate"
WIDEST = 512
"""Most channels in which levels are fused."""


@register
class ReviewKD(Method):
    """``weight · ramp · Σ_l HCL(r_l(F_s^l ... F_s^L), F_t^l)``, ramped up linearly: levels learn from coarser ones.

    Levels are the stages and what the classifier reads. r fuses the student's levels from the deepest up
    (:class:`adm_core.review.ReviewChain`), so that the teacher's level l is held against the student's levels from l
    on; HCL is the hierarchical context loss (arXiv:2104.09044, section 3;
    :func:`adm_core.losses.features.hierarchical_context`). The teacher's stages are read before their last activation.
    """

    card = MethodCard(
        name="reviewkd",
        title="Distilling Knowledge via Knowledge Review",
        paper="arXiv:2104.09044",
        year=2021,
        regimes=frozenset({"offline"}),
        family="features",
    )

    @dataclass(frozen=True)
    class Settings:
        """Defaults are the authors' on CIFAR-100 for ResNet-32x4 and ResNet-8x4; the weight is set for each pair there.

        It is 5 for WRN pairs and ShuffleNetV1 as well, 8 for ShuffleNetV2, 0.6 for ResNet-56 and 20, 1 for ResNet-110
        and 32 (dvlab-research/ReviewKD at cede6ea). mdistiller has 5 for all.

        Attributes:
            weight: of the sum over levels.
            warmup: share of training over which the weight grows from zero; the default is 20 of 240 epochs.
            preact: whether the teacher's stages are read before their last activation; networks that do not show that
                need false.
        """

        weight: Annotated[float, Field(ge=0)] = searched(5.0, 0.5, 50.0)
        warmup: Annotated[float, Field(ge=0, le=1)] = 20 / 240
        preact: bool = True

    @property
    def needs(self) -> Needs:  # type: ignore[override]
        """All stages, of the teacher before activation, and what the classifier reads."""
        taps = (ALL_STAGES, PREACTS, END) if self.settings.preact else (ALL_STAGES, END)
        return Needs("class_logits", taps=taps, views="shared", capabilities=frozenset({"trainable-parts"}))

    def supports(self, student: Shapes, teacher: Shapes, regime: str) -> str | None:
        """Stages must be maps."""
        from adm_core import align

        return align.why_not_maps([tap for tap in self.needs.taps if tap != END], student, teacher)

    def build(self, student: Shapes, teacher: Shapes, facts: Facts) -> dict[str, nn.Module]:
        """The chain that fuses the student's levels."""
        from adm_core.review import ReviewChain

        widths = [student[tap][1] for tap in (*members((ALL_STAGES,), student), END)]
        outputs = [teacher[tap][1] for tap in (*members((self._targets,), teacher), END)]
        return {"review": ReviewChain(widths, outputs, min(WIDEST, widths[-1]))}

    @property
    def _targets(self) -> str:
        return PREACTS if self.settings.preact else ALL_STAGES

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """One term, ``review``, the sum over levels."""
        s = self.settings
        own, fixed = _levels(student, ALL_STAGES), _levels(teacher.detached(), self._targets)
        reviewed = self.parts["review"](own, [tuple(level.shape[2:]) for level in fixed])
        pairs = zip(reviewed, fixed, strict=True)
        total = sum(losses.features.hierarchical_context(ours, theirs, step.mask) for ours, theirs in pairs)
        return Losses(student={"review": s.weight * step.ramp(s.warmup) * total})


def _levels(view: View, stages: str) -> list[Tensor]:
    """The maps of the stages and what the classifier reads, a vector as a map of one position."""
    end = view.features[END]
    return [*view.maps((stages,)), end if end.dim() == 4 else end[:, :, None, None]]
