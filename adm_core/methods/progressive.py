"""Progressive distillation: half the sampling steps, again and again (Salimans & Ho, arXiv:2202.00512, ICLR 2022)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, cast

from pydantic import Field

from adm_core import losses
from adm_core.method import Facts, Losses, Method, MethodCard, Needs, Shapes, Step, View
from adm_core.registry import register

if TYPE_CHECKING:
    from torch import Generator, nn

    from adm_core.batch import Batch
    from adm_core.memory import Counter
    from adm_core.network_copy import NetworkCopy


@register
class Progressive(Method):
    """Each round the student learns to do in one DDIM step what its teacher does in two, then becomes the teacher.

    ``mean max(SNR, 1) · (x_s - x~)²``, x_s the clean example that the student's prediction means and x~ the one from
    which one step leads to where the teacher's two lead (arXiv:2202.00512, algorithm 2 and section 4); the task's own
    loss is left out. Training is divided evenly into rounds; the last one ends at ``steps`` sampling steps, the first
    starts from ``steps · 2^rounds``. The student begins as the teacher. The paper anneals the learning rate in every
    round; here the recipe's schedule runs once over all. Networks should predict the velocity or the clean example
    (section 4). Of those that predict noise the loss is the squared error of the noise, ``SNR · (x_s - x~)²``, in which
    the first sampling steps count for little; under a schedule that ends in noise alone (``cosine``) they are declined.
    """

    card = MethodCard(
        name="progressive",
        title="Progressive Distillation",
        paper="arXiv:2202.00512",
        year=2022,
        regimes=frozenset({"offline"}),
        family="steps",
    )

    @dataclass(frozen=True)
    class Settings:
        """Four steps by two halvings: our choice, the paper goes from 8192 to one.

        Attributes:
            steps: sampling steps that the student is made for.
            rounds: halvings; the teacher should sample well in ``steps · 2^rounds`` steps.
        """

        steps: Annotated[int, Field(ge=1)] = 4
        rounds: Annotated[int, Field(ge=1)] = 2

    @property
    def needs(self) -> Needs:  # type: ignore[override]
        """A copy of the teacher, and as many timesteps as it takes steps in the first round."""
        return Needs(
            prediction="denoiser",
            teacher=False,
            copies={"teacher": "teacher"},
            starts_as_teacher=True,
            timesteps=2 * self._steps(0),
            clean_example=True,
        )

    def build(self, student: Shapes, teacher: Shapes, facts: Facts) -> dict[str, nn.Module]:
        """What remembers which round the teacher is of."""
        from adm_core.memory import Counter

        return {"round": Counter()}

    def inputs(self, batch: Batch, progress: float, generator: Generator) -> Batch:
        """The examples at timesteps where sampling in this round's number of steps stands."""
        steps = self._steps(self._round(progress))
        index = losses.denoising.draw_steps(len(batch.index), steps, generator)
        return batch.at_timestep(losses.denoising.step_ends(batch.levels, steps, index))

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """One term, ``two_steps``; logs the number of sampling steps that is being learnt."""
        noising, now = step.noising, self._round(step.progress)
        assert noising is not None
        passed = cast("Counter", self.parts["round"])
        if now > passed.count:
            cast("NetworkCopy", self.parts["teacher"]).follow()
            passed.count = now
        steps, process = self._steps(now), noising.process
        middle, end = (losses.denoising.later(noising.timestep, len(process), steps, by) for by in (0.5, 1.0))
        target = losses.denoising.two_step_target(noising, self.parts["teacher"], middle, end)
        clean = process.clean(student.prediction, noising.noisy, noising.timestep)
        error = losses.denoising.truncated_snr_error(process, clean, target, noising.timestep)
        return Losses(student={"two_steps": error}, student_task=0.0, log={"steps": error.new_full((), float(steps))})

    def _round(self, progress: float) -> int:
        rounds = int(self.settings.rounds)
        return min(int(progress * rounds), rounds - 1)

    def _steps(self, number: int) -> int:
        """Sampling steps that the student learns in a round, counted from 0."""
        final, halvings = int(self.settings.steps), int(self.settings.rounds)
        return final << (halvings - 1 - number)
