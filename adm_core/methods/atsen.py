"""ATSEN: two students learn from two teachers that follow them in fragments (Qu et al., arXiv:2212.06522)."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Literal, cast

from pydantic import Field

from adm_core import losses
from adm_core.method import Losses, Method, MethodCard, Needs, Step, View
from adm_core.registry import register
from adm_core.settings import searched

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adm_core.network_copy import NetworkCopy
    from adm_core.taps import Network


@register
class AdaptiveTeachers(Method):
    """First CE on labels that are partly wrong; then each of two students: ``Σ_k a_k T² KL(p_k || p)``, labels unread.

    p_1 and p_2 are the predictions of both networks' teachers. Only examples (or pixels) count of which a student's own
    teacher is surer than ``confidence`` and for which both teachers name one class. The weights a_1 + a_2 = 1 make the
    mean gradient at the student's logits as short as can be (:func:`adm_core.losses.teachers.min_norm_share`);
    ``weights="mean"`` is the control of 1/2 each. A teacher is its student's copy until the labels are left, and then
    follows in fragments after each step: each weight tensor stays as it is with probability ``keep``, or else becomes
    ``decay · teacher + (1 - decay) · student``; ``keep=0`` is the control of a whole average. The first network's
    teacher is what is left after training.

    A port from named entity recognition. Verified (the paper and the authors' code): two pairs, noisy start, fragments,
    mask and T. Ours: min-norm weights in the place of the code's one-class SVM, whose released setting gives 1/2 each;
    the other teacher as it is now, not a snapshot every 6,000 steps; normalisation statistics follow with their layer.
    Left out: soft labels sharpened by class frequency, and students of two architectures.
    """

    card = MethodCard(
        name="atsen",
        title="Adaptive Teacher and Student Ensemble (port from entity recognition)",
        paper="arXiv:2212.06522",
        year=2022,
        regimes=frozenset({"peers"}),
        family="logits",
        deployed="the teacher that followed the student",
        version=2,  # statistics follow in the shares in which weights do
    )
    needs = Needs("class_logits", peers=1, copies={"teacher_student": "student", "teacher_peer1": "peer1"})

    @dataclass(frozen=True)
    class Settings:
        """Defaults are the paper's on CoNLL-2003, where 1 of 50 epochs is noisy pre-training.

        Attributes:
            warmup: share of training on labels; twitter's is 6 of 50 epochs. A small share of few steps is too little.
            confidence: least probability of a class that a teacher names, σ_1.
            decay: m, of a teacher's tensors that follow. They look back over about 1 / ((1 - decay) (1 - keep)) steps.
            keep: probability that a tensor stays, σ_2.
            temperature: T.
            weights: of the two teachers.
        """

        warmup: Annotated[float, Field(ge=0, le=1)] = searched(0.02, 0.0, 0.9, scale="linear")
        confidence: Annotated[float, Field(ge=0, lt=1)] = searched(0.9, 0.0, 0.95, scale="linear")
        decay: Annotated[float, Field(ge=0, lt=1)] = searched(0.995, 0.9, 0.999, scale="linear")
        keep: Annotated[float, Field(ge=0, lt=1)] = 0.8
        temperature: Annotated[float, Field(gt=0)] = 2.0
        weights: Literal["min-norm", "mean"] = "min-norm"

    _on_labels = False

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """One term each, ``teachers``, in the task loss's place once labels are left; logs what share ``counted``."""
        self._on_labels = step.progress < self.settings.warmup
        if self._on_labels:
            return Losses()
        taught = {role: step.copies[f"teacher_{role}"].prediction for role in step.views}
        terms, counted = {}, []
        for role, view in step.views.items():
            own, other = taught[role], next(z for name, z in taught.items() if name != role)
            known = losses.teachers.agreed(own, other, self.settings.confidence)
            if step.mask is not None:
                known = known & losses.spatial.at_size(step.mask, known.shape[1:])
            terms[role] = {"teachers": self._distance(view.prediction, own, other, known)}
            counted.append(known.to(own.dtype).mean())
        log = {"counted": sum(counted[1:], counted[0]) / len(counted)}
        return replace(Losses.of_roles(terms), student_task=0.0, log=log)

    def _distance(self, own: Tensor, one: Tensor, two: Tensor, known: Tensor) -> Tensor:
        """``a T² KL(p_1 || p) + (1 - a) T² KL(p_2 || p)``, mean over what counts."""
        temperature, mean = self.settings.temperature, losses.spatial.masked_mean
        share: Tensor | float = 0.5
        if self.settings.weights == "min-norm":
            # T² KL(p_k || p) has the gradient T (p - p_k) at the logits; common factors do not matter.
            p, *others = ((z.detach() / temperature).softmax(1) * known[:, None] for z in (own, one, two))
            share = losses.teachers.min_norm_share(*(p - other for other in others))
        of_one, of_two = (mean(losses.logits.kl_map(own, z, temperature), known) for z in (one, two))
        return share * of_one + (1 - share) * of_two

    def after_step(self) -> None:
        """Let each teacher follow its student, whole as long as labels are learnt."""
        import torch

        draws = random.Random(torch.initial_seed())  # sown for every step
        for name in self.needs.copies:
            copied = cast("NetworkCopy", self.parts[name])
            if self._on_labels:
                copied.follow()
            else:
                copied.follow_fragments(self.settings.decay, self.settings.keep, draws)

    def deployed(self, networks: Mapping[str, Network]) -> nn.Module:
        """The first network's teacher."""
        return cast("NetworkCopy", self.parts["teacher_student"]).network
