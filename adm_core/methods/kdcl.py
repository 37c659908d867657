"""KDCL: all networks learn from an ensemble of their predictions (Guo et al., CVPR 2020)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, cast

from pydantic import Field

from adm_core import losses
from adm_core.method import Facts, Losses, Method, MethodCard, Needs, Shapes, Step, View
from adm_core.registry import register
from adm_core.settings import searched

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adm_core.held_out import HeldOut

GENERAL = "general"


@register
class KDCL(Method):
    """Each network: ``(1 - alpha) · CE + alpha · T² KL(σ(z_ens / T) || σ(z_own / T))``, the ensemble detached.

    The ensemble is one of the paper's naive, linear, min-logit or general forms or the plain mean (re-implementations);
    on dense predictions naive chooses per pixel, and linear has one coefficient for all valid pixels of the batch.
    Each network sees its own augmentation of an image, unless a composed method needs corresponding positions.

    General weighs probabilities: ``Σ_i w_i σ(z_i / T)``, ``w_i ∝ Σ_j (C⁻¹)_ij``, C the covariance of the networks'
    errors σ(z) - y on images that they are not trained on. These are the share ``held_out`` of the training images,
    drawn once: where a batch holds some, they count in no loss, and move C, a running mean, by their predictions in
    that very pass. It so trains on fewer images, and the splits that score are not looked at.

    Verified (shaoeric's re-implementation at 1ba5461): the plain mean, T and alpha. Not verified at their source: the
    paper's four forms. Ours: that C is of predictions in training mode, on augmented images, and a running mean where
    the paper goes through a validation split; and that negative weights become zero.
    """

    card = MethodCard(
        name="kdcl",
        title="Online Knowledge Distillation via Collaborative Learning",
        paper="CVPR 2020, Guo et al.",
        year=2020,
        regimes=frozenset({"online", "peers"}),
        family="logits",
    )
    only_in: ClassVar[Mapping[str, str]] = {"networks": "peers"}

    @dataclass(frozen=True)
    class Settings:
        """Mean logits, T = 4 and alpha = 0.5 are those of the public CIFAR-100 re-implementation.

        Attributes:
            ensemble: what teaches.
            temperature: T.
            alpha: share of the divergence.
            views: whether every network sees an augmentation of its own.
            networks: K, among peers; linear is for two.
            held_out: share of the training images, for general.
            decay: of the running mean of C, for general: about 1 / (1 - decay) batches count.
        """

        ensemble: Literal["naive", "linear", "min-logit", "mean", "general"] = "mean"
        temperature: Annotated[float, Field(gt=0)] = searched(4.0, 1.0, 8.0)
        alpha: Annotated[float, Field(ge=0, le=1)] = searched(0.5, 0.0, 1.0, scale="linear")
        views: Literal["own", "shared"] = "own"
        networks: Annotated[int, Field(ge=2)] = 2
        held_out: Annotated[float, Field(gt=0, lt=1)] = 0.1
        decay: Annotated[float, Field(ge=0, lt=1)] = 0.99

    @property
    def needs(self) -> Needs:  # type: ignore[override]
        """Class logits, of views of their own by default; K networks among peers."""
        s = self.settings
        own = {"own-views"} if s.views == "own" else set()
        keeps = {"held-out", "memory"} if s.ensemble == GENERAL else set()
        return Needs("class_logits", views=s.views, capabilities=frozenset(own | keeps), peers=s.networks - 1)

    def supports(self, student: Shapes, teacher: Shapes, regime: str) -> str | None:
        """General holds whole images out, of one prediction each; linear is for two networks."""
        s = self.settings
        if s.ensemble == GENERAL and len(student["prediction"]) != 2:
            return "KDCL's general ensemble is of one prediction for each image"
        if s.ensemble == "linear" and regime == "peers" and s.networks > 2:
            return f"KDCL's linear ensemble has one coefficient, for 2 networks, not {s.networks}"
        return None

    def build(self, student: Shapes, teacher: Shapes, facts: Facts) -> dict[str, nn.Module]:
        """What general holds out, and the covariance of errors there."""
        from adm_core.held_out import HeldOut

        s = self.settings
        general = s.ensemble == GENERAL
        return {"held_out": HeldOut(facts.examples, s.held_out, len(facts.roles), s.decay)} if general else {}

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """One term each, ``ensemble``; of general also ``labels`` in the place of the task's loss."""
        s, views = self.settings, step.views
        members, task, mask = [view.prediction for view in views.values()], 1 - s.alpha, step.mask
        terms: dict[str, dict[str, Tensor]] = {role: {} for role in views}
        if s.ensemble == GENERAL:
            target, mask = self._general(members, step)
            for role, own in views.items():
                terms[role]["labels"] = task * losses.spatial.masked_mean(own.task_loss, mask)
            task = 0.0
        else:
            target = losses.ensembles.ensemble_target(members, step.target, s.ensemble, mask)
        for role, own in views.items():
            divergence = losses.logits.kl_divergence(own.prediction, target, s.temperature, mask)
            terms[role]["ensemble"] = s.alpha * divergence
        return replace(Losses.of_roles(terms), student_task=task, teacher_task=task)

    def _general(self, members: list[Tensor], step: Step) -> tuple[Tensor, Tensor]:
        """The teaching logits, and which examples [B] train; takes in the errors on the others."""
        part, ensembles = cast("HeldOut", self.parts["held_out"]), losses.ensembles
        weights = ensembles.least_error_weights(part.covariance).to(members[0].dtype)
        held = part.holds(step.batch.index)
        part.take_in(ensembles.error_covariance(members, step.target, held), held)
        return ensembles.weighted_ensemble(members, weights, self.settings.temperature), ~held
