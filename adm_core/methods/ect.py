"""ECT: a consistency model tuned from a diffusion model, without a teacher (Geng et al., arXiv:2406.14548)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, cast

from pydantic import Field

from adm_core import losses
from adm_core.card import Sampler
from adm_core.method import Losses, Method, MethodCard, Needs, Step, View
from adm_core.registry import register

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from adm_core.batch import Batch
    from adm_core.network_copy import NetworkCopy


@register
class EasyConsistency(Method):
    """One example under the same noise at two levels must mean the same clean example, and levels draw nearer.

    ``mean (√(||f(x_t) - f_-(x_r)||² + c²) - c) / (t - r)`` with t and r the ratios σ / α of two timesteps, f the clean
    example that a prediction means, f_- that of the student itself as a constant, and the example where r falls below
    the schedule's lowest ratio. Log t is normal; r follows from t and the stage of training
    (:func:`adm_core.losses.denoising.nearer_ratio`). The task's own loss is left out and the teacher is only what the
    student begins as: ECT shows beside ``consistency`` what its teacher's steps add.

    Levels are the timesteps of the schedule next above t and next below r, so that a stage in which r and t would be
    one step apart is the last that matters. The authors' networks scale input and output by the level of noise (EDM);
    theirs share the dropout of both passes, here the constant one has none.
    """

    card = MethodCard(
        name="ect",
        title="Easy Consistency Tuning",
        paper="arXiv:2406.14548",
        year=2024,
        regimes=frozenset({"offline"}),
        family="steps",
    )

    @dataclass(frozen=True)
    class Settings:
        """Defaults are those of the authors' code for CIFAR-10 (locuslab/ect at 4311059).

        Attributes:
            stages: equal parts of training; the distance of levels is halved from one to the next.
            mean: of log t.
            deviation: of log t.
            huber: c; 0 gives the plain norm.
            sampler: how the student is sampled for scoring: ``ddim``, as every other, or ``multistep``, which noises
                each predicted image anew, as consistency models are sampled.
        """

        stages: Annotated[int, Field(ge=1)] = 8
        mean: float = -1.1
        deviation: Annotated[float, Field(gt=0)] = 2.0
        huber: Annotated[float, Field(ge=0)] = 0.0
        sampler: Sampler = "ddim"

    @property
    def needs(self) -> Needs:  # type: ignore[override]
        """A constant copy of the student, which is sampled as the settings say."""
        return Needs(
            prediction="denoiser",
            teacher=False,
            copies={"itself": "student"},
            starts_as_teacher=True,
            sampler=self.settings.sampler,
            clean_example=True,
        )

    def inputs(self, batch: Batch, progress: float, generator: Generator) -> Batch:
        """The examples at the level t."""
        import torch

        assert batch.noising is not None
        s, ratios = self.settings, losses.denoising.noise_ratios(batch.noising.process)
        normal = torch.randn(len(batch.index), generator=generator, device=generator.device)
        drawn = (normal * s.deviation + s.mean).exp()
        return batch.at_timestep(torch.searchsorted(ratios, drawn).clamp_max(len(ratios) - 1))

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """One term, ``consistency``."""
        s, noising = self.settings, step.noising
        assert noising is not None
        process, now, earlier = noising.process, noising.timestep, self._earlier(step)
        asked, noisy = earlier.clamp_min(0), process.noisy(noising.clean, noising.noise, earlier)
        meant = process.clean(self.parts["itself"](noisy, *noising.conditions(asked)), noisy, asked)
        target = meant.where((earlier >= 0).view(-1, 1, 1, 1), noising.clean)
        own, ratios = process.clean(student.prediction, noising.noisy, now), losses.denoising.noise_ratios(process)
        apart = ratios[now] - ratios[asked].masked_fill(earlier < 0, 0.0)
        error = losses.denoising.huber_norm(own, target, s.huber) / apart
        return Losses(student={"consistency": error.mean()}, student_task=0.0)

    def after_step(self) -> None:
        """The constant is the student as it is now."""
        cast("NetworkCopy", self.parts["itself"]).follow()

    def _earlier(self, step: Step) -> Tensor:
        """The timestep next below r, int64 [B]; -1 where r is below all."""
        import torch

        assert step.noising is not None
        stage = min(int(step.progress * self.settings.stages), self.settings.stages - 1)
        ratios = losses.denoising.noise_ratios(step.noising.process)
        wanted = losses.denoising.nearer_ratio(ratios[step.noising.timestep], 0.5 ** (stage + 1))
        return torch.searchsorted(ratios, wanted, right=True) - 1
