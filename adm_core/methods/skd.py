"""SKD: structured distillation, by pairs of positions and by whole label maps (Liu et al., arXiv:1903.04197)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from adm_core import losses
from adm_core.method import Adam, Facts, Losses, Method, MethodCard, Needs, Shapes, Step, View, constant
from adm_core.registry import register
from adm_core.settings import Tap, searched

if TYPE_CHECKING:
    from torch import Tensor, nn


@register
class StructuredKD(Method):
    """Pair-wise: MSE of the cosines between all positions. Holistic: the student must pass a critic for the teacher.

    ``pair_weight · mean (a_s(i, j) - a_t(i, j))² - adversarial_weight · mean D(z_s)``, while the critic D minimises
    ``critic_weight · (mean max(0, 1 - D(z_t)) + mean max(0, 1 + D(z_s)))`` (arXiv:1903.04197, section 3, with the
    hinge in place of the gradient penalty). As in CIRKD's code D sees logits at the output's stride and not the
    image; unlike there it has no batch norm (:class:`adm_core.critic.Critic`). Logits at void positions are set to
    zero before it sees them. Gradients pass through the lengths that cosines are divided by, as in CIRKD's code; the
    authors' own stops them there. The paper's pixel-wise part is KD: its full recipe is ``kd+skd``.
    """

    card = MethodCard(
        name="skd",
        title="Structured Knowledge Distillation",
        paper="arXiv:1903.04197",
        year=2019,
        regimes=frozenset({"offline"}),
        family="relations",
    )

    @dataclass(frozen=True)
    class Settings:
        """Defaults are CIRKD's on Cityscapes.

        Attributes:
            tap: the features' place.
            pair_weight: of the pair-wise term; 0 leaves it out.
            kernel: side of the windows that features are max-pooled by before they are paired.
            max_positions: most pooled positions of an image that are paired; windows grow until they fit. Bounds
                memory, which goes with its square: 4096 take 64 MiB per image and network.
            adversarial_weight: of the holistic term; 0 leaves it and the critic out.
            critic_weight: of the critic's own loss.
            critic_lr: learning rate of the critic's Adam, whose betas are 0.9 and 0.99.
        """

        tap: Tap = "penultimate"
        pair_weight: Annotated[float, Field(ge=0)] = searched(10.0, 1.0, 100.0)
        kernel: Annotated[int, Field(ge=1)] = 2
        max_positions: Annotated[int, Field(ge=1)] = 4096
        adversarial_weight: Annotated[float, Field(ge=0)] = searched(0.001, 0.0001, 0.01)
        critic_weight: Annotated[float, Field(gt=0)] = 0.1
        critic_lr: Annotated[float, Field(gt=0)] = 4e-4

    @property
    def needs(self) -> Needs:  # type: ignore[override]
        """Features and dense logits at corresponding positions, of the parts that have a weight."""
        s = self.settings
        return Needs(
            prediction="class_logits" if s.adversarial_weight else None,
            taps=(s.tap,) if s.pair_weight else (),
            views="shared",
            capabilities=frozenset({"trainable-parts", "own-optimiser"} if s.adversarial_weight else ()),
        )

    def supports(self, student: Shapes, teacher: Shapes, regime: str) -> str | None:
        """What has a weight must have positions."""
        from adm_core import align

        if self.settings.adversarial_weight and len(student["prediction"]) != 4:
            return "the critic judges maps of logits; set adversarial_weight to 0 to leave it out"
        return align.why_not_maps(self.needs.taps, student, teacher)

    def build(self, student: Shapes, teacher: Shapes, facts: Facts) -> dict[str, nn.Module]:
        """The critic."""
        from adm_core.critic import Critic

        if not self.settings.adversarial_weight:
            return {}
        (_, classes, *own), (*_, h, w) = student["prediction"], teacher["prediction"]
        return {"critic": Critic(classes, (max(own[0], h), max(own[1], w)))}

    def optimizers(self) -> Mapping[str, Adam]:
        """Adam for the critic."""
        s = self.settings
        return {"critic": Adam(s.critic_lr, (0.9, 0.99))} if s.adversarial_weight else {}

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """Terms ``pair`` and ``holistic``; the critic's own is ``critic``."""
        from adm_core import align

        s, target, terms = self.settings, teacher.detached(), {}
        if s.pair_weight:
            maps = align.match_size(student.features[s.tap], target.features[s.tap])
            pair = losses.relations.pairwise_similarity(*maps, step.mask, s.kernel, s.max_positions)
            terms["pair"] = s.pair_weight * pair
        if not s.adversarial_weight:
            return Losses(student=terms)
        terms["holistic"], critic = self._holistic(student.prediction, target.prediction, step.mask)
        return Losses(student=terms, parts={"critic": critic})

    def after_step(self) -> None:
        """The critic's spectral norms follow its new weights."""
        for critic in self.parts.values():
            critic.advance()  # type: ignore[operator]

    def _holistic(self, own: Tensor, theirs: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """The student's term and the critic's, weighted."""
        import torch

        s, critic, counts = self.settings, self.parts["critic"], None
        if mask is not None:
            valid = losses.spatial.at_size(mask, own.shape[2:])
            own, theirs = (logits.masked_fill(~valid[:, None], 0.0) for logits in (own, theirs))
            counts = valid.flatten(1).any(1)
        passing = losses.adversarial.student_hinge(constant(critic)(own), counts)
        on_student, on_teacher = critic(torch.cat([own.detach(), theirs])).chunk(2)
        telling = losses.adversarial.critic_hinge(on_student, on_teacher, counts)
        return s.adversarial_weight * passing, s.critic_weight * telling
