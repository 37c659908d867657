"""DiffKD: the student's features are noisy ones of the teacher, cleaned by a diffusion model (arXiv:2305.15712)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from adm_core import losses
from adm_core.method import Facts, Losses, Method, MethodCard, Needs, Shapes, Step, View
from adm_core.registry import register
from adm_core.settings import Tap, searched

if TYPE_CHECKING:
    from torch import Tensor, nn


@register
class KnowledgeDiffusion(Method):
    """``weight · mean (P D(F_s) - u_t)² + logit_weight · T² KL(P' D'(z_s), z_t)``, D and D' diffusion models.

    u_t is what an auto-encoder makes of the teacher's map; D takes the student's map for a noisy u_t, noisy to a degree
    that it finds itself, and cleans it in five DDIM steps; P is a 1×1 convolution with batch norm
    (:class:`adm_core.refinement.Refinement`; Huang et al., arXiv:2305.15712, section 3). Logits are treated alike,
    without the auto-encoder. The auto-encoder learns from its error on the teacher's map, each diffusion model from its
    error on the noise of random timesteps, with weight 1; the models and P learn from the two terms as well. Maps of
    unlike size are average-pooled to the smaller one. All of that is left behind after training.

    Doubts: layers and steps are those of the authors' code (github.com/hunto/image_classification_sota), which is for
    images. On pixels the logits of each position are cleaned for themselves (a reconstruction), void ones as zeros;
    denoisers have the term of maps alone.
    """

    card = MethodCard(
        name="diffkd",
        title="Knowledge Diffusion for Distillation",
        paper="arXiv:2305.15712",
        year=2023,
        regimes=frozenset({"offline"}),
        family="features",
    )

    @dataclass(frozen=True)
    class Settings:
        """Defaults are the authors' on ImageNet from ResNet-50; from ResNet-34 their ratio is 2.

        Attributes:
            tap: the maps' place.
            ratio: width of u_t as a share of the teacher's.
            weight: of the maps' term.
            logit_weight: of the logits' term; 0 leaves out what it needs.
            temperature: T.
        """

        tap: Tap = "last"
        ratio: Annotated[float, Field(gt=0)] = 0.5
        weight: Annotated[float, Field(gt=0)] = searched(1.0, 0.1, 10.0)
        logit_weight: Annotated[float, Field(ge=0)] = searched(1.0, 0.1, 10.0)
        temperature: Annotated[float, Field(gt=0)] = searched(1.0, 1.0, 8.0, acts=lambda s, _: s.logit_weight > 0)

    @property
    def needs(self) -> Needs:  # type: ignore[override]
        """One tap of both networks, at corresponding positions."""
        return Needs(taps=(self.settings.tap,), views="shared", capabilities=frozenset({"trainable-parts"}))

    def supports(self, student: Shapes, teacher: Shapes, regime: str) -> str | None:
        """The tap must be a map."""
        from adm_core import align

        return align.why_not_maps(self.needs.taps, student, teacher)

    def build(self, student: Shapes, teacher: Shapes, facts: Facts) -> dict[str, nn.Module]:
        """The auto-encoder and the diffusion models."""
        from torch import nn

        from adm_core import align
        from adm_core.refinement import Refinement

        s, own, given = self.settings, student[self.settings.tap][1], teacher[self.settings.tap][1]
        width = max(round(s.ratio * given), 1)
        parts: dict[str, nn.Module] = {"encoder": align.make_projector(given, width)}
        parts |= {"decoder": nn.Conv2d(width, given, 1), "maps": Refinement(own, width, spatial=True)}
        if s.logit_weight and facts.classes is not None:
            parts["logits"] = Refinement(student["prediction"][1], teacher["prediction"][1], spatial=False)
        return parts

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """Terms ``features`` and ``logits``; the parts' own ``reconstruction``, ``feature_noise``, ``logit_noise``."""
        from adm_core import align

        s, fixed = self.settings, teacher.detached()
        own, target = align.match_size(student.features[s.tap], fixed.features[s.tap])
        latent = self.parts["encoder"](target)
        rebuilt, latent = self.parts["decoder"](latent), latent.detach()
        refined, noise = self.parts["maps"](own, latent, step.generator)
        terms = {"features": s.weight * _mean((refined - latent).pow(2), step)}
        parts = {"reconstruction": _mean((rebuilt - target).pow(2), step), "feature_noise": _mean(noise, step)}
        if "logits" in self.parts:
            logits, wanted = (_as_map(view.prediction, step) for view in (student, fixed))
            refined, noise = self.parts["logits"](logits, wanted, step.generator)
            divergence = losses.logits.kl_map(refined, wanted, s.temperature)
            terms["logits"] = s.logit_weight * losses.spatial.masked_mean(divergence, step.mask)
            parts["logit_noise"] = _mean(noise, step)
        return Losses(student=terms, parts=parts)


def _mean(error: Tensor, step: Step) -> Tensor:
    return losses.spatial.masked_mean(error.mean(1), step.mask)


def _as_map(logits: Tensor, step: Step) -> Tensor:
    """[B, K] as [B, K, 1, 1]; of [B, K, H, W] void positions, which batch norm would see, as zeros."""
    if step.mask is None or logits.dim() == 2:
        return logits if logits.dim() == 4 else logits[:, :, None, None]
    return logits.masked_fill(~losses.spatial.at_size(step.mask, logits.shape[2:])[:, None], 0.0)
