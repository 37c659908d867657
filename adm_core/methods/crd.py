"""CRD: contrastive representation distillation (Tian, Krishnan, Isola, arXiv:1910.10699, ICLR 2020)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, cast

from pydantic import Field

from adm_core import losses
from adm_core.errors import Unsupported
from adm_core.method import Facts, Losses, Method, MethodCard, Needs, Shapes, Step, View
from adm_core.registry import register
from adm_core.settings import searched

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adm_core.memory import ExampleBank, NegativeSampler


@register
class CRD(Method):
    """An example's student embedding must find its own teacher embedding among K others', and the reverse.

    ``weight · NCE(e_s, bank_t)`` for the student and ``weight · NCE(e_t, bank_s)`` for the teacher's embedding
    (arXiv:1910.10699, eq. 17 to 19; :func:`adm_core.losses.contrast.noise_contrast`). e is a linear map, scaled to
    length one, of the vector [B, C] that the classifier reads; the two banks hold for every training example a moving
    average of its embeddings, updated after the step. P is ``exp(⟨e, m⟩/τ) / Z``, Z fixed by the first batch. The K
    negatives are drawn per example, uniformly and without replacement, from those of other classes, at most as many
    as there are outside the largest class; where the labels of the training set are not to be had, from all other
    examples. Drawing takes ``B · N`` random numbers a step.
    """

    card = MethodCard(
        name="crd",
        title="Contrastive Representation Distillation",
        paper="arXiv:1910.10699",
        year=2020,
        regimes=frozenset({"offline"}),
        family="relations",
    )

    @dataclass(frozen=True)
    class Settings:
        """Defaults are the authors' (RepDistiller) on CIFAR-100.

        Attributes:
            weight: of both directions.
            negatives: K.
            width: of the embeddings.
            temperature: τ.
            momentum: share of a bank's old entry that an update keeps.
        """

        weight: Annotated[float, Field(ge=0)] = searched(0.8, 0.08, 8.0)
        negatives: Annotated[int, Field(ge=1)] = 16_384
        width: Annotated[int, Field(ge=1)] = 128
        temperature: Annotated[float, Field(gt=0)] = searched(0.07, 0.02, 0.5)
        momentum: Annotated[float, Field(ge=0, lt=1)] = 0.5

    needs = Needs("class_logits", taps=("penultimate",), capabilities=frozenset({"trainable-parts", "memory"}))
    _waiting: tuple[tuple[Tensor, Tensor, Tensor], ...] = ()

    def supports(self, student: Shapes, teacher: Shapes, regime: str) -> str | None:
        """There must be one vector for each example."""
        if len(student["penultimate"]) != 2 or len(teacher["penultimate"]) != 2:
            return "CRD contrasts whole images: the classifier must read one vector per image (for pixels see cirkd)"
        return None

    def build(self, student: Shapes, teacher: Shapes, facts: Facts) -> dict[str, nn.Module]:
        """The two embeddings, their banks, and what draws negatives.

        Raises:
            Unsupported: all examples are of one class.
        """
        import torch
        from torch import nn

        from adm_core.memory import ExampleBank, NegativeSampler

        s, n = self.settings, facts.examples
        negatives = NegativeSampler(torch.arange(n) if facts.labels is None else facts.labels, s.negatives)
        if negatives.count == 0:
            raise Unsupported("CRD contrasts examples of different classes, and all training examples are of one")
        self._waiting = ()
        return {
            "student": nn.Linear(student["penultimate"][1], s.width),
            "teacher": nn.Linear(teacher["penultimate"][1], s.width),
            "student_bank": ExampleBank(n, s.width, s.momentum),
            "teacher_bank": ExampleBank(n, s.width, s.momentum),
            "negatives": negatives,
        }

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """Student term ``crd``, and ``crd`` of the parts, which trains the teacher's embedding."""
        s, index = self.settings, step.batch.index
        e_s, e_t = (
            losses.features.unit(self.parts[role](view.features["penultimate"]))
            for role, view in (("student", student), ("teacher", teacher.detached()))
        )
        bank_s, bank_t = (cast("ExampleBank", self.parts[f"{role}_bank"]) for role in ("student", "teacher"))
        chosen = cast("NegativeSampler", self.parts["negatives"]).own_and_others(index, step.generator)
        # Kept until the step is done: with gradient accumulation it has several batches.
        self._waiting += ((index, e_s.detach(), e_t.detach()),)
        ours, theirs = (
            losses.contrast.noise_contrast(bank.log_ratios(anchor, chosen, s.temperature), len(bank.entries))
            for anchor, bank in ((e_s, bank_t), (e_t, bank_s))
        )
        return Losses(student={"crd": s.weight * ours}, parts={"crd": s.weight * theirs})

    def after_step(self) -> None:
        """The embeddings of the step's batches join the banks."""
        for index, e_s, e_t in self._waiting:
            for role, embedding in (("student", e_s), ("teacher", e_t)):
                cast("ExampleBank", self.parts[f"{role}_bank"]).update(index, embedding)
        self._waiting = ()
