"""Online module: a frozen teacher adapts to its student by a few weights that train along (Rao et al., 2409.12512)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from adm_core import losses
from adm_core.method import Facts, Losses, Method, MethodCard, Needs, Shapes, Step, View
from adm_core.registry import register
from adm_core.settings import searched

if TYPE_CHECKING:
    from torch import Tensor, nn


@register
class OnlineModule(Method):
    """Student: ``L + weight · d(z_t', z)``; module: ``L(z_t') + back_weight · d(z, z_t') + anchor · d(z_t, z_t')``.

    ``z_t' = z_t + R(F_t)`` are the teacher's logits and a residual that is zero at first: of its last map F_t
    [B, C, H, W] a 1×1 convolution to C / factor channels, ReLU and another to the prediction's, the latter from
    zeros; averaged over positions, or resized to the prediction. Nothing else of the teacher trains: between
    ``kd``, where nothing does, and ``dml``, where all does. L is the task's loss, ``d(a, b) = T² KL(a || b)`` with a
    constant, of denoisers the mean squared difference. ``frozen=True`` is the control without R, which of logits is
    ``kd`` of task weight 1.

    A port from language models; written without the authors' code. Verified (abstract): small modules of the teacher
    train along with the student, so that the teacher's distribution adapts to it, without samples of the student. Ours:
    what the module is and where it stands, and the module's losses with their weights. A residual at the last map
    stands outside of the frozen network, which is folded and shared between cells as for any offline method.
    """

    card = MethodCard(
        name="online-module",
        title="Online teacher modules (port from language models)",
        paper="arXiv:2409.12512",
        year=2024,
        regimes=frozenset({"offline"}),
        family="logits",
    )
    needs = Needs(taps=("last",), capabilities=frozenset({"trainable-parts"}))

    @dataclass(frozen=True)
    class Settings:
        """Defaults are our choice; T is KD's on CIFAR-100.

        Attributes:
            weight: of the student's distance to the adapted teacher.
            back_weight: of the module's distance to the student.
            anchor: of the module's distance to the frozen teacher.
            temperature: T.
            factor: by how much the module's inner width is smaller than the teacher's map.
            frozen: whether the teacher stays as it is.
        """

        weight: Annotated[float, Field(ge=0)] = searched(1.0, 0.1, 10.0)
        back_weight: Annotated[float, Field(ge=0)] = searched(1.0, 0.1, 10.0, acts=lambda s, _: not s.frozen)
        anchor: Annotated[float, Field(ge=0)] = 0.1
        temperature: Annotated[float, Field(gt=0)] = searched(4.0, 1.0, 8.0)
        factor: Annotated[int, Field(ge=1)] = 8
        frozen: bool = False

    def supports(self, student: Shapes, teacher: Shapes, regime: str) -> str | None:
        """The teacher's last tap must be a map."""
        return None if len(teacher["last"]) == 4 else "the teacher's last tap is not a feature map [B, C, H, W]"

    def build(self, student: Shapes, teacher: Shapes, facts: Facts) -> dict[str, nn.Module]:
        """The module, which gives zeros at first."""
        from torch import nn

        if self.settings.frozen:
            return {}
        width, outputs = teacher["last"][1], teacher["prediction"][1]
        inner = max(width // self.settings.factor, 1)
        last = nn.Conv2d(inner, outputs, 1)
        for p in last.parameters():
            nn.init.zeros_(p)
        return {"module": nn.Sequential(nn.Conv2d(width, inner, 1), nn.ReLU(), last)}

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """Student term ``teacher``; the module's own are ``labels``, ``student`` and ``anchor``."""
        s, own, frozen = self.settings, student.prediction, teacher.detached()
        distance = partial(losses.teachers.distance, kind=frozen.kind, temperature=s.temperature, mask=step.mask)
        if s.frozen:
            return Losses(student={"teacher": s.weight * distance(own, frozen.prediction)})
        adapted = frozen.prediction + self._residual(frozen)
        parts = {
            "labels": losses.teachers.error(adapted, step.target, frozen.kind, step.mask),
            "student": s.back_weight * distance(adapted, own.detach()),
            "anchor": s.anchor * distance(adapted, frozen.prediction),
        }
        return Losses(student={"teacher": s.weight * distance(own, adapted.detach())}, parts=parts)

    def _residual(self, teacher: View) -> Tensor:
        """What the module adds, of the shape of the prediction."""
        from adm_core import align

        added: Tensor = self.parts["module"](teacher.features["last"])
        size = teacher.prediction.shape[2:]
        return align.resize_map(added, (size[0], size[1])) if len(size) == 2 else added.mean((2, 3))
