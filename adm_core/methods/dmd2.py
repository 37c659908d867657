"""DMD2: a few-step generator whose images are to be distributed as the data (Yin et al., arXiv:2405.14867)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, cast

from pydantic import Field

from adm_core import losses
from adm_core.method import Adam, Facts, Losses, Method, MethodCard, Needs, Shapes, Step, View, constant
from adm_core.registry import register
from adm_core.settings import searched

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn

    from adm_core.batch import Batch
    from adm_core.network_copy import NetworkCopy
    from adm_core.noising import Noising


@register
class DistributionMatching(Method):
    """The student's images move to where the teacher finds them likelier than a network that learns what they are.

    With x an image that the student predicts, μ_r and μ_f what teacher and fake network make of x noised to a random
    timestep, the gradient at x is ``(μ_f - μ_r) / mean |x - μ_r|`` (DMD, arXiv:2311.18828). Beside it x passes for
    data, ``gan · mean softplus(-D(x))``, D a head on the fake network's middle map of x noised. The fake network
    begins as the teacher and learns in every step to denoise the student's images, and to tell them from data by
    ``critic_gan · mean (softplus(D(x)) + softplus(-D(data)))``. The student learns in one of ``critic_steps`` steps, as
    their seeds decide, from where its own sampling stands before one of ``steps``. No task loss.

    As in the authors' code (tianweiy/DMD2): gradient, weights, critic steps, inputs. Ours: learning rates, a small
    head, plain errors of the fake network (for velocity their SNR + 1/σ_d² at σ_d = 1), both sides updated at once.
    """

    card = MethodCard(
        name="dmd2",
        title="Improved Distribution Matching Distillation",
        paper="arXiv:2405.14867",
        year=2024,
        regimes=frozenset({"offline"}),
        family="steps",
    )

    @dataclass(frozen=True)
    class Settings:
        """Weights and critic steps are the authors' for ImageNet, the learning rate is ours.

        Attributes:
            steps: sampling steps that the student is made for.
            critic_steps: steps of the fake network for one of the student.
            gan: weight of passing for data.
            critic_gan: weight of telling the student's images from data.
            critic_lr: learning rate of Adam for the fake network and its head.
        """

        steps: Annotated[int, Field(ge=1)] = 4
        critic_steps: Annotated[int, Field(ge=1)] = 5
        gan: Annotated[float, Field(ge=0)] = searched(3e-3, 1e-4, 1.0)
        critic_gan: Annotated[float, Field(gt=0)] = 1e-2
        critic_lr: Annotated[float, Field(gt=0)] = 1e-3

    @property
    def needs(self) -> Needs:  # type: ignore[override]
        """Copies of both networks, one of them trained, and a timestep for each of the student's steps."""
        return Needs(
            "denoiser", ("mid",), teacher=False, starts_as_teacher=True, sampler="multistep",
            copies={"real": "teacher", "itself": "student"}, trained_copies={"fake": "teacher"},
            capabilities=frozenset({"trainable-parts", "own-optimiser"}),
            timesteps=self.settings.steps, clean_example=True,
        )  # fmt: skip

    def build(self, student: Shapes, teacher: Shapes, facts: Facts) -> dict[str, nn.Module]:
        """The head on the middle map."""
        from torch import nn

        w = teacher["mid"][1]
        layers = (nn.Conv2d(w, w, 3, padding=1), nn.GroupNorm(1, w), nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        return {"head": nn.Sequential(*layers, nn.Linear(w, 1))}

    def optimizers(self) -> Mapping[str, Adam]:
        """Adam for the fake network and its head."""
        return dict.fromkeys(("fake", "head"), Adam(float(self.settings.critic_lr)))

    def inputs(self, batch: Batch, progress: float, generator: Generator) -> Batch:
        """Where the student's sampling stands before one of its steps, which the step's seed decides."""
        assert batch.noising is not None
        walked = losses.denoising.multistep(self.parts["itself"], batch.noising, self.settings.steps, generator)
        return replace(batch.at_timestep(walked[1]), student_input=walked[0], teacher_input=walked[0])

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """The student's terms ``distribution`` and ``adversarial``, the fake network's ``denoising`` and ``critic``."""
        from adm_core.seeds import derive

        noising = step.noising
        assert noising is not None
        x = noising.process.clean(student.prediction, step.batch.student_input, noising.timestep)
        learns = derive(step.generator.initial_seed(), "student") % int(self.settings.critic_steps) == 0
        terms = self._student(x, noising, step.generator) if learns else {}
        return Losses(student=terms, parts=self._fake(x.detach(), noising, step.generator), student_task=0.0)

    def _student(self, x: Tensor, noising: Noising, generator: Generator) -> dict[str, Tensor]:
        fake, head = constant(self.parts["fake"]), constant(self.parts["head"])
        seen = losses.denoising.noised_anew(noising, x.detach(), generator)
        predictions = self.parts["real"](*seen.inputs), fake("mid", *seen.inputs)[0]
        matching = losses.denoising.distribution_matching(x, *map(seen.means, predictions))
        judged = head(fake("mid", *losses.denoising.noised_anew(noising, x, generator).inputs)[1])
        passing = self.settings.gan * losses.adversarial.student_logistic(judged)
        return {"distribution": matching, "adversarial": passing}

    def _fake(self, x: Tensor, noising: Noising, generator: Generator) -> dict[str, Tensor]:
        fake, head = self.parts["fake"], self.parts["head"]
        seen = losses.denoising.noised_anew(noising, x, generator)
        prediction, own = fake("mid", *seen.inputs)
        data = fake("mid", *losses.denoising.noised_anew(noising, noising.clean, generator).inputs)[1]
        telling = self.settings.critic_gan * losses.adversarial.critic_logistic(head(own), head(data))
        return {"denoising": (prediction - seen.target).pow(2).mean(), "critic": telling}

    def after_step(self) -> None:
        """Sampling is that of the student as it is now."""
        cast("NetworkCopy", self.parts["itself"]).follow()
