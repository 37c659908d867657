"""CIRKDv2: CIRKD with context gathered over positions, and relations between channels (Yang et al., report of 2025)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from adm_core import losses
from adm_core.method import Facts, Losses, MethodCard, Needs, Shapes, Step, View
from adm_core.methods.cirkd import CIRKD
from adm_core.registry import register
from adm_core.settings import searched

if TYPE_CHECKING:
    from torch import Tensor, nn


@register
class CIRKDv2(CIRKD):
    """CIRKD + ``hint · MSE + channel_minibatch · L_batch + channel_memory · L_memory + channel_match · L_unit``.

    The student's embeddings first gather context from all positions (:class:`adm_core.attention.GlobalContext`); all
    terms, CIRKD's too, are on those. MSE is that to the teacher's after a 1×1 convolution. In the others channels take
    the place of pixels, each a vector over the positions of the grid, after a projector like CIRKD's: relations between
    the channels of all images of the batch, relations to channels of the teacher sampled from one queue, and the
    squared difference of vectors of length one. The recipe adds pixel KD as CIRKD's does: ``kd+cirkdv2``.

    As in the authors' code (winycg/CIRKD at dab64db), with CIRKD's departures here: all is done on a grid of at most
    ``positions`` cells, context included (there context is on whole maps, channels on maps pooled by 4×4), and nothing
    is sampled that was not stored. The queue holds ``channel_queue`` vectors of as many numbers as the grid has cells.
    """

    card = MethodCard(
        name="cirkdv2",
        title="Cross-Image Relational Knowledge Distillation with Contextual Modeling",
        paper="technical report, 2025 (Yang et al.)",
        year=2025,
        regimes=frozenset({"offline"}),
        family="relations",
    )

    @dataclass(frozen=True)
    class Settings(CIRKD.Settings):
        """Defaults are the authors' on Cityscapes, those of CIRKD unchanged.

        Attributes:
            hint: weight of the squared error of embeddings.
            channel_minibatch: weight of the relations between channels.
            channel_memory: weight of the relations to the queue.
            channel_match: weight of the squared difference.
            channel_queue: entries of the queue.
            channel_contrast: size of the sample.
            queued_channels: most channels of a batch that join the queue.
        """

        hint: Annotated[float, Field(ge=0)] = 1.0
        channel_minibatch: Annotated[float, Field(ge=0)] = 1.0
        channel_memory: Annotated[float, Field(ge=0)] = 0.1
        channel_match: Annotated[float, Field(ge=0)] = searched(100.0, 1.0, 1000.0)
        channel_queue: Annotated[int, Field(ge=1)] = 10_000
        channel_contrast: Annotated[int, Field(ge=1)] = 2_048
        queued_channels: Annotated[int, Field(ge=1)] = 256

    @property
    def needs(self) -> Needs:  # type: ignore[override]
        """One map of both networks, at corresponding positions."""
        parts = frozenset({"trainable-parts", "memory"})
        return Needs("class_logits", taps=(self.settings.tap,), views="shared", capabilities=parts)

    def build(self, student: Shapes, teacher: Shapes, facts: Facts) -> dict[str, nn.Module]:
        """CIRKD's parts, the context, a convolution for the embeddings, and projector and queue of the channels."""
        from torch import nn

        from adm_core import align
        from adm_core.attention import GlobalContext
        from adm_core.memory import ClassQueue

        s, (_, own, *size), (_, width, h, w) = self.settings, student[self.settings.tap], teacher[self.settings.tap]
        rows, columns = losses.cross_image.grid_within((min(size[0], h), min(size[1], w)), s.positions)
        return super().build(student, teacher, facts) | {
            "context": GlobalContext(own),
            "hint": nn.Conv2d(own, width, 1, bias=False),
            "channel_projector": align.make_embedding_head(own, width),
            "channel": ClassQueue(1, s.channel_queue, rows * columns),
        }

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """CIRKD's terms, ``hint``, ``channel_minibatch``, ``channel_memory`` and ``channel_match``."""
        s, (own, fixed, valid) = self.settings, self._on_grid(student, teacher, step)
        own = self.parts["context"](own)
        terms = self._pixel_terms(own, fixed, valid, teacher, step)
        error = (self.parts["hint"](own) - fixed).pow(2).mean(1)
        terms["hint"] = s.hint * losses.spatial.masked_mean(error, valid)
        return Losses(student=terms | self._channel_terms(own, fixed, valid, step))

    def _channel_terms(self, own: Tensor, fixed: Tensor, valid: Tensor, step: Step) -> dict[str, Tensor]:
        s, cross_image = self.settings, losses.cross_image
        projected, there = cross_image.as_positions(self.parts["channel_projector"](own), valid)
        target, _ = cross_image.as_positions(fixed, valid)
        offered = cross_image.choose_rows(target, there, s.queued_channels, step.generator)
        self._waiting += (("channel", *offered),)
        contrast, seen = self.parts["channel"].sample(s.channel_contrast, *offered, step.generator)  # type: ignore[operator]
        batch = cross_image.pixel_relations(projected, target, there, s.temperature)
        memory = cross_image.contrast_relations(projected, target, there, contrast, seen, s.temperature)
        return {
            "channel_minibatch": s.channel_minibatch * batch,
            "channel_memory": s.channel_memory * memory,
            "channel_match": s.channel_match * cross_image.unit_distance(projected, target, there),
        }
