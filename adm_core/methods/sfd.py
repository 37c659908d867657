"""SFD: the student's own few steps are led along the teacher's many (Zhou et al., arXiv:2409.19681, NeurIPS 2024)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, cast

from pydantic import Field

from adm_core import losses
from adm_core.method import Losses, Method, MethodCard, Needs, Step, View
from adm_core.registry import register

if TYPE_CHECKING:
    from torch import Generator

    from adm_core.batch import Batch
    from adm_core.network_copy import NetworkCopy


@register
class SimpleFast(Method):
    """``mean |x_s - x_t| / α``: one step of the student's own trajectory against the teacher's finer one.

    Both start from the same noise. The student takes DDIM steps (Euler's, in its paper's coordinates x / α), of
    which only the one that is trained has a gradient; the teacher takes ``between + 1`` for each of them. No image of
    the data is used; classes, where networks are told them, are those of the batch. The task's own loss is left out;
    the student begins as the teacher.

    The authors train all steps of a trajectory in turn, the student moving between them, and lead it by DPM-Solver++
    of third order (zju-pi/diff-sampler at 68d5ce4); here each batch trains one step, which its seed decides, and the
    teacher's steps are DDIM's. Their first step may be an analytic one, and a second round for a single step uses
    LPIPS; neither is here.
    """

    card = MethodCard(
        name="sfd",
        title="Simple and Fast Distillation of diffusion models",
        paper="arXiv:2409.19681",
        year=2024,
        regimes=frozenset({"offline"}),
        family="steps",
    )

    @dataclass(frozen=True)
    class Settings:
        """``between`` is the authors'; four steps are our choice, as of the other methods for fewer steps.

        Attributes:
            steps: sampling steps that the student is made for.
            between: M, points of the teacher's trajectory between two of the student's.
        """

        steps: Annotated[int, Field(ge=1)] = 4
        between: Annotated[int, Field(ge=0)] = 3

    @property
    def needs(self) -> Needs:  # type: ignore[override]
        """Copies of both networks, and a timestep for each of the teacher's steps."""
        return Needs(
            prediction="denoiser",
            teacher=False,
            copies={"teacher": "teacher", "itself": "student"},
            starts_as_teacher=True,
            timesteps=self.settings.steps * (self.settings.between + 1),
            clean_example=True,
        )

    def inputs(self, batch: Batch, progress: float, generator: Generator) -> Batch:
        """Where the student's trajectory stands before the step that is trained."""
        import torch

        assert batch.noising is not None
        s, noising = self.settings, batch.noising
        done = self._done(generator)
        state = losses.denoising.trajectory(self.parts["itself"], noising, noising.noise, s.steps, done)
        index = torch.full_like(noising.timestep, s.steps - done)
        at = batch.at_timestep(losses.denoising.step_ends(batch.levels, s.steps, index))
        return replace(at, student_input=state, teacher_input=state)

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """One term, ``trajectory``."""
        s, noising, finer = self.settings, step.noising, self.settings.between + 1
        assert noising is not None
        process, now = noising.process, noising.timestep
        done = self._done(step.generator)
        wanted = losses.denoising.trajectory(
            self.parts["teacher"], noising, noising.noise, s.steps * finer, (done + 1) * finer
        )
        end = losses.denoising.later(now, len(process), s.steps, 1.0)
        own = process.step(student.prediction, step.batch.student_input, now, end)
        error = (own - wanted).abs() / process.levels(end)[0]
        return Losses(student={"trajectory": error.mean()}, student_task=0.0)

    def after_step(self) -> None:
        """The trajectory is that of the student as it is now."""
        cast("NetworkCopy", self.parts["itself"]).follow()

    def _done(self, generator: Generator) -> int:
        """Steps of the trajectory before the trained one; from the step's seed, as to draw it would wait for a GPU."""
        from adm_core.seeds import derive

        return derive(generator.initial_seed(), "trajectory") % int(self.settings.steps)
