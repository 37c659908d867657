"""Guidance distillation: one pass of the student for the teacher's two (Meng et al., arXiv:2210.03142, CVPR 2023)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from adm_core import losses
from adm_core.method import Losses, Method, MethodCard, Needs, Step, View
from adm_core.registry import register


@register
class Guidance(Method):
    """One pass of the student predicts what classifier-free guidance makes of two passes of the teacher.

    ``mean max(SNR, 1) · (x_s - ((1 + w) x_c - w x_u))²`` over the task's own timesteps (arXiv:2210.03142, its first
    stage): x are the clean examples that predictions mean, x_c of the teacher told the class, x_u of the teacher told
    none, w the strength. Where networks predict noise the weight is the SNR alone. Examples whose class is dropped
    teach what the teacher predicts without one. The task's own loss is left out; the student begins as the teacher.
    What guidance gives in two passes, of the teacher as of every student, ``data.sampling.guidance`` shows.

    The paper's student is told w, drawn anew in every step from 0 to 4, by an embedding of its own; here w is a
    setting, so that the student is of the teacher's architecture. The second stage, fewer sampling steps, is
    ``progressive`` with a student of this method as the teacher. Doubts: written without the authors' code, which is
    not public; their formula leaves the weight open, ours is that of ``progressive``.
    """

    card = MethodCard(
        name="guidance",
        title="Guidance distillation",
        paper="arXiv:2210.03142",
        year=2023,
        regimes=frozenset({"offline"}),
        family="steps",
    )

    @dataclass(frozen=True)
    class Settings:
        """The strength is our choice; it says what is learnt, not how well, and is not searched.

        Attributes:
            strength: w; 0 is the teacher that is told the class.
        """

        strength: Annotated[float, Field(ge=0)] = 0.5

    needs = Needs(
        prediction="denoiser",
        copies={"teacher": "teacher"},
        starts_as_teacher=True,
        capabilities=frozenset({"null-class"}),
    )

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """One term, ``guided``."""
        import torch

        noising = step.noising
        assert noising is not None
        assert noising.label is not None and noising.null_label is not None
        untold = torch.full_like(noising.label, noising.null_label)
        without = self.parts["teacher"](noising.noisy, noising.timestep, untold)
        guided = torch.lerp(without, teacher.detached().prediction, 1 + self.settings.strength)
        own, target = map(noising.means, (student.prediction, guided))
        error = losses.denoising.truncated_snr_error(noising.process, own, target, noising.timestep)
        return Losses(student={"guided": error}, student_task=0.0)
