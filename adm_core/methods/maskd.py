"""MasKD: match predictions within soft masks that the teacher's own task teaches (Huang et al., ICLR 2023)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from adm_core import losses
from adm_core.card import AUXILIARY
from adm_core.method import Facts, Losses, Method, MethodCard, Needs, Phase, Shapes, Step, View
from adm_core.registry import register
from adm_core.settings import searched

if TYPE_CHECKING:
    from torch import nn

MASKS = "masks"
"""The phase in which the tokens are learnt."""


@register
class MaskedTokens(Method):
    """``weight · L(z_s, z_t)``, squared error within masks ``m = σ(token · z_t)`` of the teacher's logits.

    L is :func:`adm_core.losses.tokens.masked_distance`. In the phase ``masks`` the student rests and the tokens alone
    are trained, by cross-entropy of ``Σ_i m_i z_t`` and by how much masks overlap (Dice); then they stay as they are.
    With ``auxiliary`` the same masks are made of the auxiliary logits, where both networks have them.

    As in the authors' code for segmentation (hunto/MasKD at b5af34f), which takes logits for the features that the
    paper (arXiv:2205.14589) masks in detection. There tokens are learnt once per teacher, in 10,000 iterations before
    the student's 40,000 and at a rate of 0.1; here they are learnt by the recipe, and the phase is a share of training.
    """

    card = MethodCard(
        name="maskd",
        title="Masked Distillation with Receptive Tokens",
        paper="arXiv:2205.14589",
        year=2023,
        regimes=frozenset({"offline"}),
        family="logits",
    )

    @dataclass(frozen=True)
    class Settings:
        """Defaults are the authors' on Cityscapes.

        Attributes:
            tokens: how many.
            share: of training that is the phase ``masks``.
            weight: of the distance.
            auxiliary: by which that of the auxiliary predictions is weighted beside it; 0 leaves it out.
        """

        tokens: Annotated[int, Field(ge=2)] = 8
        share: Annotated[float, Field(gt=0, lt=1)] = 0.2
        weight: Annotated[float, Field(ge=0)] = searched(1.0, 0.01, 10.0)
        auxiliary: Annotated[float, Field(ge=0)] = 0.4

    @property
    def needs(self) -> Needs:  # type: ignore[override]
        """Dense logits at corresponding positions, and a first phase."""
        return Needs(
            prediction="class_logits",
            optional=(AUXILIARY,) if self.settings.auxiliary else (),
            views="shared",
            phases=(Phase(MASKS, share=self.settings.share, trains=("method",)),),
            capabilities=frozenset({"trainable-parts"}),
        )

    def supports(self, student: Shapes, teacher: Shapes, regime: str) -> str | None:
        """Masks are of positions."""
        if len(student["prediction"]) != 4:
            return "masks choose positions: it needs a prediction at every position"
        return None

    def build(self, student: Shapes, teacher: Shapes, facts: Facts) -> dict[str, nn.Module]:
        """The tokens, normal of deviation 0.01."""
        import torch
        from torch import nn

        tokens = nn.Parameter(0.01 * torch.randn(self.settings.tokens, teacher["prediction"][1]))
        return {"tokens": nn.ParameterDict({"of": tokens})}

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """In the first phase ``task`` and ``overlap``, of the tokens; then ``masked`` and ``masked_auxiliary``."""
        from adm_core import align

        s, tokens, target = self.settings, self.parts["tokens"]["of"], teacher.detached()  # type: ignore[index]
        if step.phase == MASKS:
            masks = losses.tokens.token_masks(tokens, target.prediction)
            chosen = target.prediction * masks.sum(1, keepdim=True)
            task = losses.logits.masked_cross_entropy(chosen, step.target, step.mask)
            overlap = losses.tokens.dice_overlap(masks, step.mask)
            return Losses(parts={"task": task, "overlap": overlap}, student_task=0.0)
        pairs = {"masked": (s.weight, student.prediction, target.prediction)}
        if s.auxiliary and AUXILIARY in student.features:
            maps = align.match_predictions(student.features[AUXILIARY], target.features[AUXILIARY])
            pairs["masked_auxiliary"] = (s.weight * s.auxiliary, *maps)
        terms = {}
        for name, (weight, own, theirs) in pairs.items():
            masks = losses.tokens.token_masks(tokens.detach(), theirs)
            terms[name] = weight * losses.tokens.masked_distance(own, theirs, masks, step.mask)
        return Losses(student=terms)
