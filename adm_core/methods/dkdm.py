"""DKDM: a denoiser distilled without data, from a pool of the teacher's states (Xiang et al., arXiv:2409.03550)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, cast

from pydantic import Field

from adm_core import losses
from adm_core.method import Facts, Losses, Method, MethodCard, Needs, Shapes, Step, View
from adm_core.registry import register

if TYPE_CHECKING:
    from torch import Generator, nn

    from adm_core.batch import Batch
    from adm_core.memory import StatePool


@register
class DataFree(Method):
    """``mean (prediction_s - prediction_t)²`` at noisy states that the teacher's own sampling passes through.

    A pool holds ``share · steps`` batches of states. Each step draws a batch of them without replacement, the student
    matches the teacher there, and the teacher's next sampling step takes their place; where that was the last one,
    fresh noise does (arXiv:2409.03550, dynamic iterative distillation). The pool begins as all states of some first
    trajectories. No image of the data is used; classes, where networks are told them, are those of the first batch,
    one for each trajectory and place. The task's own loss is left out. Networks may be of different architectures.

    As the authors' code (qianlong0502/DKDM at 3b493df): the pool, its share, matching of means. Ours: the teacher
    walks in ``steps`` DDIM steps, where theirs takes all T of DDPM's and begins from shuffled states; networks here
    have no variances to be matched.
    """

    card = MethodCard(
        name="dkdm",
        title="Data-Free Knowledge Distillation for Diffusion Models",
        paper="arXiv:2409.03550",
        year=2025,
        regimes=frozenset({"offline"}),
        family="logits",
    )

    @dataclass(frozen=True)
    class Settings:
        """The share is the authors' for CIFAR-10, the steps are our choice.

        Attributes:
            steps: sampling steps of the teacher, at whose timesteps alone the student learns; a multiple of those that
                the student is to be sampled in.
            share: of a batch, how many trajectories the pool begins as; ρ.
        """

        steps: Annotated[int, Field(ge=1)] = 20
        share: Annotated[float, Field(gt=0)] = 0.4

    @property
    def needs(self) -> Needs:  # type: ignore[override]
        """A copy of the teacher that samples, and a timestep for each of its steps."""
        return Needs(
            prediction="denoiser",
            teacher=False,
            copies={"teacher": "teacher"},
            capabilities=frozenset({"memory"}),
            timesteps=self.settings.steps,
        )

    def build(self, student: Shapes, teacher: Shapes, facts: Facts) -> dict[str, nn.Module]:
        """The pool, of at least a batch of states."""
        from adm_core.memory import StatePool

        s = self.settings
        trajectories = max(round(s.share * facts.batch_size), -(-facts.batch_size // s.steps))
        return {"pool": StatePool(trajectories, s.steps, student["prediction"][1:])}

    def inputs(self, batch: Batch, progress: float, generator: Generator) -> Batch:
        """States of the pool; ``index`` are their places in it."""
        import torch

        from adm_core.batch import noisy_batch

        pool, noising, steps = cast("StatePool", self.parts["pool"]), batch.noising, int(self.settings.steps)
        assert noising is not None
        if not pool.filled.count:
            pool.fill(self.parts["teacher"], noising, generator)
        places = torch.randperm(len(pool.states), generator=generator, device=generator.device)[: len(batch.index)]
        label = None if noising.label is None else pool.labels[places]
        now = losses.denoising.step_ends(batch.levels, steps, pool.to_go[places])
        drawn, state = replace(noising, timestep=now, label=label), pool.states[places]
        return replace(noisy_batch(drawn, places), student_input=state, teacher_input=state)

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """One term, ``output``; the states move on."""
        noising, batch = step.noising, step.batch
        assert noising is not None
        target = self.parts["teacher"](batch.student_input, *noising.conditions(noising.timestep))
        end = losses.denoising.later(noising.timestep, len(noising.process), int(self.settings.steps), 1.0)
        moved = noising.process.step(target, batch.student_input, noising.timestep, end)
        cast("StatePool", self.parts["pool"]).put(batch.index, moved, step.generator)
        return Losses(student={"output": (student.prediction - target).pow(2).mean()}, student_task=0.0)
