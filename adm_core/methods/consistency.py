"""CD: consistency distillation of a denoiser (Song, Dhariwal, Chen, Sutskever, arXiv:2303.01469, ICML 2023)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal, cast

from pydantic import Field

from adm_core import losses
from adm_core.card import Sampler
from adm_core.method import Losses, Method, MethodCard, Needs, Step, View
from adm_core.registry import register

if TYPE_CHECKING:
    from torch import Generator

    from adm_core.batch import Batch
    from adm_core.network_copy import NetworkCopy


@register
class Consistency(Method):
    """Two neighbouring points of one trajectory of the teacher must mean the same clean example.

    ``mean d(f_s(x_{t_{n+1}}), f_-(x^_{t_n}))`` (arXiv:2303.01469, eq. 7): x^ is one DDIM step of the teacher from
    x_{t_{n+1}}, f the clean example that a prediction means, f_- that of an exponential moving average of the student.
    The boundary condition f(x_0) = x_0 holds because the grid ends at the clean example itself; the paper's c_skip and
    c_out do that for networks which are asked at small noise too. The task's own loss is left out. The student begins
    as the teacher.
    """

    card = MethodCard(
        name="consistency",
        title="Consistency Distillation",
        paper="arXiv:2303.01469",
        year=2023,
        regimes=frozenset({"offline"}),
        family="steps",
    )

    @dataclass(frozen=True)
    class Settings:
        """No one recipe of the paper's: of its settings for CIFAR-10 only the number of points is taken.

        There they are spaced as Karras et al. space noise levels (ρ = 7), the step is Heun's, the distance LPIPS, and
        the target the student itself without gradient, a decay of 0; on ImageNet 64x64 N is 40 and the decay 0.95 (the
        authors' ``configs/cifar10_ve_cd.py`` and ``scripts/launch.sh``). The schedule of decays that starts at 0.9 is
        of their training without a teacher. Decay and c here are those of LCM.

        Attributes:
            grid: N, points on the trajectory, uniform in t. Sampling in a number of steps that does not
                divide N stands at timesteps between them, which are never trained.
            decay: of the moving average that makes the target; 0: the student as it is.
            distance: ``l2`` or pseudo-``huber``.
            huber: c of pseudo-Huber.
            sampler: how the student is sampled for scoring: ``ddim``, as every other, or the paper's ``multistep``,
                which noises each predicted image anew (algorithm 1). The exported pipeline samples by DDIM.
        """

        grid: Annotated[int, Field(ge=2)] = 18
        decay: Annotated[float, Field(ge=0, lt=1)] = 0.95
        distance: Literal["l2", "huber"] = "huber"
        huber: Annotated[float, Field(gt=0)] = 0.001
        sampler: Sampler = "ddim"

    @property
    def needs(self) -> Needs:  # type: ignore[override]
        """A copy that follows the student, which is sampled as the settings say."""
        return Needs(
            prediction="denoiser",
            copies={"average": "student"},
            starts_as_teacher=True,
            sampler=self.settings.sampler,
            timesteps=self.settings.grid,
            clean_example=True,
        )

    def inputs(self, batch: Batch, progress: float, generator: Generator) -> Batch:
        """The examples at timesteps of the grid."""
        index = losses.denoising.draw_steps(len(batch.index), self.settings.grid, generator)
        return batch.at_timestep(losses.denoising.step_ends(batch.levels, self.settings.grid, index))

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """One term, ``consistency``."""
        s, noising = self.settings, step.noising
        assert noising is not None
        process, noisy, now = noising.process, noising.noisy, noising.timestep
        end = losses.denoising.later(now, len(process), s.grid, 1.0)
        earlier = process.step(teacher.detached().prediction, noisy, now, end)
        asked = end.clamp_min(0)
        meant = process.clean(self.parts["average"](earlier, *noising.conditions(asked)), earlier, asked)
        target = meant.where((end >= 0).view(-1, 1, 1, 1), earlier)
        own = process.clean(student.prediction, noisy, now)
        if s.distance == "l2":
            error = (own - target).pow(2).mean()
        else:
            error = losses.denoising.pseudo_huber(own, target, s.huber)
        return Losses(student={"consistency": error}, student_task=0.0)

    def after_step(self) -> None:
        """Let the average follow the student."""
        cast("NetworkCopy", self.parts["average"]).follow(self.settings.decay)
