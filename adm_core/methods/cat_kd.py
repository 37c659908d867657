"""CAT-KD: class attention transfer (Guo et al., arXiv:2304.12777, CVPR 2023)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from adm_core import losses
from adm_core.method import Losses, Method, MethodCard, Needs, Shapes, Step, View
from adm_core.registry import register
from adm_core.settings import searched

if TYPE_CHECKING:
    from torch import Tensor


@register
class ClassAttentionTransfer(Method):
    """``weight · mean (A_s - A_t)²``, A [B, K, side, side] the pooled class activation maps of each network.

    A class activation map is the network's own classifier at every position of its last map (arXiv:2304.12777,
    section 3), here without the bias, as the authors' networks have none. Averages and linear layers may change
    places: maps are pooled first. With ``normalise`` the pooled map of each class is scaled to length one.
    """

    card = MethodCard(
        name="cat-kd",
        title="Class Attention Transfer",
        paper="arXiv:2304.12777",
        year=2023,
        regimes=frozenset({"offline"}),
        family="features",
    )

    @dataclass(frozen=True)
    class Settings:
        """Defaults are the authors' on CIFAR-100 for ResNet-32x4 and ResNet-8x4; they set the weight for each pair.

        Theirs are 0.7 (ResNet-56 and 20), 1.8 (110 and 32), 12 (WRN-40-2 and 16-2), 1.5 (WRN-40-2 and 40-1) and 4.5
        (VGG-13 and 8); with ``normalise`` 600 (ResNet-32x4 and ShuffleNets), 80 (WRN-40-2 and ShuffleNetV1), 40
        (ResNet-50 and MobileNetV2) and 15 (VGG-13 and MobileNetV2).

        Attributes:
            weight: of the term.
            side: of the pooled maps; theirs is 4 for ShuffleNets.
            normalise: whether maps are scaled to length one, as they do between networks of different families.
        """

        weight: Annotated[float, Field(ge=0)] = searched(15.0, 0.5, 500.0)
        side: Annotated[int, Field(ge=1)] = 2
        normalise: bool = False

    needs = Needs("class_logits", taps=("last",), views="shared", head=True)

    def supports(self, student: Shapes, teacher: Shapes, regime: str) -> str | None:
        """Both classifiers must be linear layers on the spatial mean of the last map."""
        for network, shapes in (("student", student), ("teacher", teacher)):
            if "head" not in shapes or len(shapes["last"]) != 4:
                return f"the {network}'s classifier is no linear layer on the mean of its last map, of whole images"
        return None

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """One term, ``attention``."""
        own, target = (self._attention(view) for view in (student, teacher.detached()))
        return Losses(student={"attention": self.settings.weight * (own - target).pow(2).mean()})

    def _attention(self, view: View) -> Tensor:
        from adm_core import align

        assert view.head is not None  # supports() asks for it
        pooled = align.pool_map(view.features["last"], (self.settings.side, self.settings.side))
        bias = view.head(pooled.new_zeros(pooled.shape[1]))
        maps = (align.class_response(pooled, view.head) - bias[:, None, None]).flatten(2)
        return losses.features.unit(maps, dim=2) if self.settings.normalise else maps
