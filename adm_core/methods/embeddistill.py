"""EmbedDistill: match embeddings, and read them by the teacher's frozen side (Kim et al., arXiv:2301.12005)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from adm_core import losses
from adm_core.method import Facts, Losses, Method, MethodCard, Needs, Shapes, Step, View
from adm_core.registry import register
from adm_core.settings import searched

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn

    from adm_core.taps import Network


@register
class EmbedDistill(Method):
    """``CE(z) + score_weight · T² KL(p_t || p) + embedding_weight · mean |P f_s - f_t|_2``, ``z = W_t P f_s + b_t``.

    f_s [B, C_s] and f_t [B, C_t] are the spatial means of the last maps, P a linear map, W_t and b_t the teacher's
    classifier, which does not train; the distance of embeddings is not squared (arXiv:2301.12005, eq. 7). The student's
    own classifier is left behind: what is deployed ends with the teacher's. The task loss in the curves is that of the
    student's own, and means nothing here. ``embedding_weight=0`` is the control without matching; :class:`simkd
    <adm_core.methods.simkd.SimKD>` matches maps by a deeper projector and uses no labels.

    A port from retrieval, where the teacher's frozen *document encoder* reads the student's *query embedding*: classes
    stand for documents, so its classifier is that encoder. Verified (a published account of the paper's sections and a
    library's code): the three losses, the weight 1 of each, the asymmetric deployment. Ours: the analogy, and T = 1.
    Left out: generated queries, that is unlabelled inputs for the embeddings' term.
    """

    card = MethodCard(
        name="embeddistill",
        title="EmbedDistill (port from retrieval)",
        paper="arXiv:2301.12005",
        year=2023,
        regimes=frozenset({"offline"}),
        family="features",
        deployed="the student up to its last map, the projector and the teacher's classifier",
    )

    @dataclass(frozen=True)
    class Settings:
        """Weights are the paper's.

        Attributes:
            embedding_weight: of the distance between embeddings; 0 leaves it out.
            score_weight: of the divergence; 0 leaves it out.
            temperature: T of the divergence.
        """

        embedding_weight: Annotated[float, Field(ge=0)] = searched(1.0, 0.1, 10.0)
        score_weight: Annotated[float, Field(ge=0)] = searched(1.0, 0.1, 10.0)
        temperature: Annotated[float, Field(gt=0)] = searched(1.0, 1.0, 8.0, acts=lambda s, _: s.score_weight > 0)

    needs = Needs("class_logits", taps=("last",), head=True, capabilities=frozenset({"trainable-parts"}))

    def supports(self, student: Shapes, teacher: Shapes, regime: str) -> str | None:
        """Both classifiers must be linear layers on the spatial mean of the last map."""
        from adm_core.reuse import why_not_reused

        return why_not_reused(student, teacher)

    def build(self, student: Shapes, teacher: Shapes, facts: Facts) -> dict[str, nn.Module]:
        """The projector, as a 1×1 convolution: on the mean of a map it is the linear map."""
        from torch import nn

        return {"projector": nn.Conv2d(student["last"][1], teacher["last"][1], 1)}

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """Terms ``labels``, ``scores`` and ``embeddings``."""
        import torch

        s, target = self.settings, teacher.detached()
        assert target.head is not None  # supports() asks for it
        own, fixed = (view.features["last"].mean((2, 3)) for view in (student, target))
        embedded = self.parts["projector"](own[:, :, None, None]).flatten(1)
        logits = target.head(embedded)
        terms = {"labels": losses.logits.cross_entropy(logits, step.target)}
        if s.score_weight:
            terms["scores"] = s.score_weight * losses.logits.kl_divergence(logits, target.prediction, s.temperature)
        if s.embedding_weight:
            distance = torch.linalg.vector_norm(embedded - fixed, dim=1).mean()
            terms["embeddings"] = s.embedding_weight * distance
        return Losses(student=terms, student_task=0.0)

    def deployed(self, networks: Mapping[str, Network]) -> nn.Module:
        """The student's last map, projected, before the teacher's classifier."""
        from adm_core.reuse import ReusedClassifier

        head = networks["teacher"].classifier()
        assert head is not None  # supports() asks for it
        return ReusedClassifier(networks["student"], self.parts["projector"], head)
