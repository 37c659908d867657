"""MCL: networks whose embeddings contrast examples within and across networks (Yang et al., arXiv:2104.12565)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from adm_core import losses
from adm_core.method import Facts, Losses, Method, MethodCard, Needs, Shapes, Step, View
from adm_core.registry import register
from adm_core.settings import searched

if TYPE_CHECKING:
    from torch import Tensor, nn


@register
class MCL(Method):
    """Each network i: ``CE + vcl · VCL + icl · ICL + soft_vcl · SoftVCL + soft_icl · SoftICL`` (arXiv:2104.12565).

    A head, linear, ReLU, linear, maps what a network's classifier reads to embeddings e_i [B, D] of length one;
    ``S_ij = e_i e_jᵀ / τ``, [B, B]. With SC the supervised contrast of a matrix's rows with the other examples of
    their class (:func:`adm_core.losses.contrast.supervised_contrast`), KL between softmaxes of rows at
    ``temperature``, times its square, and sums over the other networks j:

    - VCL: ``SC(S_ii)``;                  SoftVCL: ``Σ_j KL(S_jj || S_ii)``;
    - ICL: ``Σ_j SC(S_ij) + SC(S_ji)``;   SoftICL: ``Σ_j KL(S_ji || S_ij) + KL(S_ij || S_ji)``;

    the first argument of a KL being constant. The authors sum each pair's ICL and SoftICL once and let it train both
    networks; here each network gets the whole with the other's embedding as a constant, which gives every network the
    same gradient, while what is logged counts a pair once per network. Own columns stay in the soft terms and an
    example's view of itself in another network is no positive, as in the authors' code.

    Batches are class-balanced. The paper's main form; its combination with KD of the averaged logits is left out:
    compose with a method on logits instead.
    """

    card = MethodCard(
        name="mcl",
        title="Mutual Contrastive Learning",
        paper="arXiv:2104.12565",
        year=2022,
        regimes=frozenset({"online", "peers"}),
        family="relations",
    )
    only_in: ClassVar = {"networks": "peers"}

    @dataclass(frozen=True)
    class Settings:
        """Defaults are the authors' on CIFAR-100: 300 epochs, batches of 64 classes, Nesterov SGD, a cosine from 0.1.

        Attributes:
            networks: equal networks in all, regime ``peers``; the paper has 2 and 4.
            vcl: weight of VCL, α.
            icl: weight of ICL, β.
            soft_vcl: weight of SoftVCL, γ.
            soft_icl: weight of SoftICL, λ.
            similarity_temperature: τ of the cosines; the authors' first version had 0.07, as they have on ImageNet.
            temperature: T of the soft terms.
            width: D, of the embeddings.
            per_class: examples of each class in a batch.
        """

        networks: Annotated[int, Field(ge=2)] = 2
        vcl: Annotated[float, Field(ge=0)] = 0.1
        icl: Annotated[float, Field(ge=0)] = searched(0.1, 0.01, 1.0)
        soft_vcl: Annotated[float, Field(ge=0)] = 1.0
        soft_icl: Annotated[float, Field(ge=0)] = searched(1.0, 0.1, 10.0)
        similarity_temperature: Annotated[float, Field(gt=0)] = 0.1
        temperature: Annotated[float, Field(gt=0)] = searched(
            3.0, 1.0, 8.0, acts=lambda s, _: s.soft_vcl > 0 or s.soft_icl > 0
        )
        width: Annotated[int, Field(ge=1)] = 128
        per_class: Annotated[int, Field(ge=2)] = 2

    @property
    def needs(self) -> Needs:  # type: ignore[override]
        """What the classifiers read, on balanced batches."""
        parts, s = frozenset({"trainable-parts"}), self.settings
        peers, per_class = s.networks - 1, s.per_class
        return Needs("class_logits", ("penultimate",), capabilities=parts, peers=peers, per_class=per_class)

    def supports(self, student: Shapes, teacher: Shapes, regime: str) -> str | None:
        """Whole examples are contrasted by their class."""
        if len(student["prediction"]) != 2:
            return "MCL contrasts examples by their class: it needs one prediction per example"
        return None

    def build(self, student: Shapes, teacher: Shapes, facts: Facts) -> dict[str, nn.Module]:
        """The embedding head of every network, by role."""
        from torch import nn

        width = self.settings.width
        widths = {role: (student if role == "student" else teacher)["penultimate"][1] for role in facts.roles}
        return {
            f"embedding_{role}": nn.Sequential(nn.Linear(own, width), nn.ReLU(), nn.Linear(width, width))
            for role, own in widths.items()
        }

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """Terms ``vcl``, ``icl``, ``soft_vcl`` and ``soft_icl`` of every network."""
        return Losses.of_roles(self.contrasts(step))

    def contrasts(self, step: Step) -> dict[str, dict[str, Tensor]]:
        """The same terms, by role."""
        embedded = {
            role: losses.features.unit(self.parts[f"embedding_{role}"](view.features["penultimate"]))
            for role, view in step.views.items()
        }
        return {role: self._terms(role, embedded, step.target) for role in embedded}

    def _terms(self, role: str, embedded: dict[str, Tensor], target: Tensor) -> dict[str, Tensor]:
        s, own = self.settings, embedded[role]
        contrast, soft = losses.contrast.supervised_contrast, losses.logits.kl_divergence
        within = own @ own.T / s.similarity_temperature
        terms = {"vcl": s.vcl * contrast(within, target)}
        each: dict[str, list[Tensor]] = {"icl": [], "soft_vcl": [], "soft_icl": []}
        for other in (e.detach() for name, e in embedded.items() if name != role):
            across, theirs = own @ other.T / s.similarity_temperature, other @ other.T / s.similarity_temperature
            each["icl"] += [contrast(across, target), contrast(across.T, target)]
            each["soft_vcl"] += [soft(within, theirs, s.temperature)]
            each["soft_icl"] += [soft(m, m.T.detach(), s.temperature) for m in (across, across.T)]
        return terms | {name: getattr(s, name) * sum(parts[1:], parts[0]) for name, parts in each.items()}
