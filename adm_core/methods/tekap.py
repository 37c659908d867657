"""TeKAP: one teacher and noisy copies of its logits (Hossain, Akhter, Hong, Huh; ICLR 2025)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from adm_core import losses
from adm_core.method import Losses, Method, MethodCard, Needs, Step, View
from adm_core.registry import register
from adm_core.settings import searched


@register
class TeKAP(Method):
    """``task_weight · CE + weight · (KD_T(z_t) + noisy_weight · Σ_n KD_T((1 - noise) z_t + noise · ε_n))``.

    KD_T is KD's term (T² KL), ε standard normal noise drawn for every step, copy and logit. The part on logits alone;
    that on features adds noise to what CRD contrasts. Logits are not brought to one scale first, so that what the noise
    does depends on how large a teacher's are.
    """

    card = MethodCard(
        name="tekap",
        title="Teacher Knowledge Augmentation via Perturbation",
        paper="ICLR 2025 (Hossain et al.)",
        year=2025,
        regimes=frozenset({"offline"}),
        family="logits",
    )
    needs = Needs(prediction="class_logits")

    @dataclass(frozen=True)
    class Settings:
        """Defaults are those of the authors' code on CIFAR-100.

        Attributes:
            copies: noisy copies.
            noise: share of noise in a copy.
            noisy_weight: of each copy, by that of the teacher itself.
            temperature: T.
            weight: of all divergences.
            task_weight: of the cross-entropy.
        """

        copies: Annotated[int, Field(ge=1)] = 3
        noise: Annotated[float, Field(ge=0, le=1)] = 0.1
        noisy_weight: Annotated[float, Field(ge=0)] = 0.8
        temperature: Annotated[float, Field(gt=0)] = searched(4.0, 1.0, 8.0)
        weight: Annotated[float, Field(ge=0)] = searched(0.9, 0.1, 9.0)
        task_weight: Annotated[float, Field(ge=0)] = 0.1

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """Terms ``teacher`` and ``copies``."""
        s, own, other = self.settings, student.prediction, teacher.detached().prediction
        copies = losses.logits.noisy_copies(other, s.copies, s.noise, step.generator)
        kl = losses.logits.kl_divergence
        terms = {
            "teacher": s.weight * kl(own, other, s.temperature, step.mask),
            "copies": s.weight * s.noisy_weight * sum(kl(own, each, s.temperature, step.mask) for each in copies),
        }
        return Losses(student=terms, student_task=s.task_weight)
