"""RCFD: step distillation compared in a classifier's features (Sun et al., arXiv:2211.12039, ICME 2023)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from adm_core import losses
from adm_core.errors import Unsupported
from adm_core.method import Losses, Method, MethodCard, Needs, Step, View
from adm_core.registry import register
from adm_core.settings import searched

if TYPE_CHECKING:
    from torch import Generator

    from adm_core.batch import Batch


@register
class RCFD(Method):
    """One halving of the sampling steps, judged by a frozen classifier φ of the data instead of by pixels.

    ``KL(softmax(φ(x~) / τ) || softmax(φ(x_s))) + β (γ H(p) - (1 - γ) H(mean_B p))``: φ are the classifier's pooled
    features, x_s the clean example that the student's prediction means, x~ the one from which one step leads to where
    the teacher's two lead, p the classifier's class probabilities of x_s: each certain, all together diverse. The
    task's own loss is left out; the student begins as the teacher. A score taken in the same classifier's features is
    what this method trains on: read it beside others.
    """

    card = MethodCard(
        name="rcfd",
        title="Classifier-based feature distillation",
        paper="arXiv:2211.12039",
        year=2023,
        regimes=frozenset({"offline"}),
        family="steps",
    )

    @dataclass(frozen=True)
    class Settings:
        """Temperature, β and γ are the authors' for a ResNet-18 as the classifier.

        Attributes:
            steps: sampling steps that the student is made for; the teacher takes twice as many.
            temperature: τ, of the target.
            diversity: β.
            certainty: γ, share of the single examples' entropy in it.
        """

        steps: Annotated[int, Field(ge=1)] = 4
        temperature: Annotated[float, Field(gt=0)] = searched(0.95, 0.5, 2.0)
        diversity: Annotated[float, Field(ge=0)] = searched(0.003, 0.0003, 0.03)
        certainty: Annotated[float, Field(ge=0, le=1)] = 0.75

    @property
    def needs(self) -> Needs:  # type: ignore[override]
        """A copy of the teacher, and a timestep for each of its steps."""
        return Needs(
            prediction="denoiser",
            teacher=False,
            copies={"teacher": "teacher"},
            starts_as_teacher=True,
            timesteps=2 * self.settings.steps,
            clean_example=True,
        )

    def inputs(self, batch: Batch, progress: float, generator: Generator) -> Batch:
        """The examples at timesteps where sampling in ``steps`` steps stands."""
        index = losses.denoising.draw_steps(len(batch.index), self.settings.steps, generator)
        return batch.at_timestep(losses.denoising.step_ends(batch.levels, self.settings.steps, index))

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """Terms ``features`` and ``diversity``.

        Raises:
            Unsupported: the task has no classifier of its images.
        """
        s, noising = self.settings, step.noising
        assert noising is not None
        if noising.classifier is None:
            raise Unsupported("'rcfd' compares in a classifier's features, and this benchmark has no classifier")
        process, now = noising.process, noising.timestep
        middle, end = (losses.denoising.later(now, len(process), s.steps, by) for by in (0.5, 1.0))
        target = losses.denoising.two_step_target(noising, self.parts["teacher"], middle, end)
        wanted, _ = noising.classifier(target)
        features, logits = noising.classifier(process.clean(student.prediction, noising.noisy, now))
        p = logits.softmax(1)
        each, together = losses.denoising.entropy(p).mean(), losses.denoising.entropy(p.mean(0))
        diversity = s.certainty * each - (1 - s.certainty) * together
        return Losses(
            student={
                "features": losses.logits.kl_divergence(features, wanted / s.temperature),
                "diversity": s.diversity * diversity,
            },
            student_task=0.0,
        )
