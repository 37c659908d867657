"""DualChecker: a teacher that is not sure is asked again; the student's borderline examples go back (2408.12326)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from adm_core import losses
from adm_core.method import Facts, Losses, Method, MethodCard, Needs, Shapes, Step, View
from adm_core.registry import register
from adm_core.settings import searched

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adm_core.batch import Batch

PER_BORDERLINE, AGAIN = 8, 2.0
"""Examples for each that is given back, and what that weighs until it is seen again."""


@register
class DualChecker(Method):
    """``CE + weight · mean_i w_i [max q_i > least] KL(q_i || p_i)``, q of a teacher that is asked twice and taught.

    The teacher's logits are ``z_t + R f_t``, f_t [B, C] what its classifier reads, R a matrix of zeros at first. If no
    class is surer than ``least``, q is the mean of two other answers: its mean for the image moved by one pixel in each
    of ``views`` directions, and the classes of the ``neighbours`` training examples of nearest f_t; where that is not
    sure either an example does not count. Of each eight examples the one that the student names wrongly and least
    surely is given back: R learns its label, w_i is 2 until it is seen again, else 1. ``interactive=False`` is the
    control in which nothing is given back, ``views=0, neighbours=0`` that in which nobody is asked twice.

    A port from a language model that labels texts. Verified (the authors' code): threshold, re-asking, five retrieved
    examples, one borderline example of eight. Ours: what stands for a prompt (moved images), for examples in it
    (neighbours) and for a new instruction (R and w). Labels are read as they are, whichever of them are wrong.
    """

    card = MethodCard(
        name="dualchecker",
        title="Interactive DualChecker (port from language models)",
        paper="arXiv:2408.12326",
        year=2024,
        regimes=frozenset({"offline"}),
        family="logits",
    )

    @dataclass(frozen=True)
    class Settings:
        """``least`` and ``neighbours`` are the authors'. Each is named above."""

        weight: Annotated[float, Field(ge=0)] = searched(1.0, 0.1, 10.0)
        least: Annotated[float, Field(ge=0, lt=1)] = searched(0.75, 0.0, 0.95, scale="linear")
        views: Annotated[int, Field(ge=0, le=4)] = 4
        neighbours: Annotated[int, Field(ge=0)] = 5
        interactive: bool = True

    @property
    def needs(self) -> Needs:  # type: ignore[override]
        """What the teacher's classifier reads, of the training set as well; a copy to ask again."""
        s, copies = self.settings, {"asked": "teacher"} if self.settings.views else {}
        own = frozenset({"trainable-parts", "memory"} if s.interactive else ())
        return Needs("class_logits", ("penultimate",), capabilities=own, copies=copies, teacher_pass=s.neighbours > 0)

    def supports(self, student: Shapes, teacher: Shapes, regime: str) -> str | None:
        """There must be one vector for each example."""
        whole = len(student["prediction"]) == len(teacher["penultimate"]) == 2
        return None if whole else "DualChecker retrieves whole images: the classifier must read one vector per image"

    def build(self, student: Shapes, teacher: Shapes, facts: Facts) -> dict[str, nn.Module]:
        """R, and the examples' weights."""
        from torch import nn

        from adm_core.memory import ExampleWeights

        if not self.settings.interactive:
            return {}
        added = nn.Linear(teacher["penultimate"][1], teacher["prediction"][1], bias=False)
        nn.init.zeros_(added.weight)
        return {"added": added, "weights": ExampleWeights(facts.examples)}

    def prepare(self, shown: Iterator[tuple[View, Batch]], facts: Facts) -> dict[str, Tensor]:
        """``vectors`` [N, C] of length one and ``labels`` [N], -1 where one was not seen."""
        from adm_core.memory import remembered

        return remembered(((b.index, view.features["penultimate"], b.target) for view, b in shown), facts.examples)

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """Term ``teacher``; R's is ``borderline``. Logs the share of examples that ``counted``."""
        import torch

        s, own, target, index = self.settings, student.prediction, teacher.detached(), step.batch.index
        logits, weights, parts = target.prediction, own.new_ones(len(own)), {}
        if s.interactive:
            memory: Any = self.parts["weights"]
            weights = memory.values[index]
            back = losses.teachers.borderline(own.detach(), step.target, max(len(own) // PER_BORDERLINE, 1))
            logits = logits + self.parts["added"](target.features["penultimate"])
            parts["borderline"] = losses.teachers.error(logits, step.target, "class_logits", back)
            memory.update(index, 1 + (AGAIN - 1) * back)
        p = logits.detach().softmax(1)
        q = torch.where(p.amax(1, keepdim=True) > s.least, p, self._again(p, target, step.batch))
        counts = (q.amax(1) > s.least).to(q.dtype)
        term = (weights * counts * losses.teachers.kl_of(own, q)).mean()
        return Losses(student={"teacher": s.weight * term}, parts=parts, log={"counted": counts.mean()})

    def _again(self, first: Tensor, teacher: View, batch: Batch) -> Tensor:
        """The mean of the other answers, [B, K]; without any the first."""
        s, answers = self.settings, []
        if s.views:
            moved = losses.teachers.moved_by_one(batch.teacher_input)[: s.views].flatten(0, 1)
            answers.append(self.parts["asked"](moved).softmax(1).unflatten(0, (s.views, -1)).mean(0))
        if s.neighbours:
            query = losses.features.unit(teacher.features["penultimate"]), batch.index
            answers.append(losses.teachers.retrieved(*query, s.neighbours, first.shape[1], **self.statistics))
        return sum(answers) / len(answers) if answers else first
