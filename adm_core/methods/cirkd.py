"""CIRKD: relations between pixels of different images, of a batch and of a memory (Yang et al., arXiv:2204.06986)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from adm_core import losses
from adm_core.method import Facts, Losses, Method, MethodCard, Needs, Shapes, Step, View
from adm_core.registry import register
from adm_core.settings import Tap, searched

if TYPE_CHECKING:
    from torch import Tensor, nn


@register
class CIRKD(Method):
    """``CE + minibatch · L_batch + pixel · L_pixel + region · L_region`` (arXiv:2204.06986).

    Each term is the mean over pixels of ``KL(teacher || student)`` between distributions of one pixel over others,
    softmaxes of cosines at temperature τ: over the pixels of an image of the batch, averaged over all pairs of images
    (L_batch); over teacher embeddings of pixels (L_pixel) and of whole class regions (L_region) sampled from queues
    per class that outlive the batch. In the two latter a projector, 1×1 convolution, batch norm, ReLU, 1×1
    convolution, brings the student to the teacher's width. The paper adds pixel-wise KD of weight 1 at T = 1: compose
    ``kd+cirkd`` with ``kd: {temperature: 1, weight: 1, task_weight: 1}``.

    Departures from the reference code: maps are average-pooled to a grid of at most ``positions`` cells for whatever
    is compared (it pools 4×4, and from sides of 256 on; cost and memory grow with the square of the cells of the whole
    batch), void left out of a cell's mean; a pixel is queued under its own class, the oldest entry makes room, and no
    slot is sampled before it is filled (there other pixels are stored, the newest are overwritten and noise is
    sampled); a cell's class is that of the pixel in its middle, not of its first.

    The queues hold ``K · (pixel_queue + region_queue)`` embeddings of the teacher's width in float32, on the device
    and in every checkpoint: 856 MB for 19 classes and width 512. A batch joins them after its step; during it the
    sample is drawn as if it had joined already.
    """

    card = MethodCard(
        name="cirkd",
        title="Cross-Image Relational Knowledge Distillation",
        paper="arXiv:2204.06986",
        year=2022,
        regimes=frozenset({"offline"}),
        family="relations",
    )

    @dataclass(frozen=True)
    class Settings:
        """Defaults are the authors' on Cityscapes, except ``positions``, which they do not have.

        Attributes:
            tap: the embeddings; what the classifier reads.
            minibatch: weight of L_batch; 0 leaves it out, as it does the others.
            pixel: weight of L_pixel; the authors take 0.01 on Pascal VOC.
            region: weight of L_region.
            temperature: τ.
            positions: most cells of the grid on which pixels are compared; 512 is 16×32 for a map of 64×128.
            pixel_queue: entries per class of the pixel queues.
            region_queue: entries per class of the region queues.
            queued: most pixels of one class and image that join the queue.
            pixel_contrast: size n of the pixel sample; ``n // K + 1`` are drawn of each class.
            region_contrast: the same of the region sample.
        """

        tap: Tap = "penultimate"
        minibatch: Annotated[float, Field(ge=0)] = searched(1.0, 0.1, 10.0)
        pixel: Annotated[float, Field(ge=0)] = searched(0.1, 0.01, 1.0)
        region: Annotated[float, Field(ge=0)] = searched(0.1, 0.01, 1.0)
        temperature: Annotated[float, Field(gt=0)] = 0.1
        positions: Annotated[int, Field(ge=1)] = 512
        pixel_queue: Annotated[int, Field(ge=1)] = 20_000
        region_queue: Annotated[int, Field(ge=1)] = 2_000
        queued: Annotated[int, Field(ge=1)] = 16
        pixel_contrast: Annotated[int, Field(ge=1)] = 4_096
        region_contrast: Annotated[int, Field(ge=1)] = 1_024

    _classes: int = 0
    _waiting: tuple[tuple[str, Tensor, Tensor], ...] = ()

    @property
    def needs(self) -> Needs:  # type: ignore[override]
        """One map of both networks, at corresponding positions."""
        s = self.settings
        remembers = frozenset({"trainable-parts", "memory"} if s.pixel or s.region else ())
        return Needs("class_logits", taps=(s.tap,), views="shared", capabilities=remembers)

    def supports(self, student: Shapes, teacher: Shapes, regime: str) -> str | None:
        """Pixels need labels and embeddings."""
        from adm_core import align

        if len(student["prediction"]) != 4:
            return "CIRKD relates labelled pixels: it needs dense predictions"
        return align.why_not_maps((self.settings.tap,), student, teacher)

    def build(self, student: Shapes, teacher: Shapes, facts: Facts) -> dict[str, nn.Module]:
        """The projector and the two memories, as far as their terms have weight."""
        from adm_core import align
        from adm_core.memory import ClassQueue

        s, width = self.settings, teacher[self.settings.tap][1]
        self._classes, self._waiting = student["prediction"][1], ()
        sizes = {"pixel": s.pixel_queue, "region": s.region_queue}
        queues: dict[str, nn.Module] = {
            name: ClassQueue(self._classes, size, width) for name, size in sizes.items() if getattr(s, name)
        }
        if not queues:
            return {}
        return {"projector": align.make_embedding_head(student[s.tap][1], width)} | queues

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """Terms ``minibatch``, ``pixel`` and ``region``."""
        own, fixed, valid = self._on_grid(student, teacher, step)
        return Losses(student=self._pixel_terms(own, fixed, valid, teacher, step))

    def _on_grid(self, student: View, teacher: View, step: Step) -> tuple[Tensor, Tensor, Tensor]:
        """Embeddings of student [B, C_s, h, w] and teacher [B, C, h, w] on one grid; bool [B, h, w], which count."""
        s, cross_image = self.settings, losses.cross_image
        own, fixed = student.features[s.tap], teacher.detached().features[s.tap]
        smaller = min(own.shape[2], fixed.shape[2]), min(own.shape[3], fixed.shape[3])
        grid = cross_image.grid_within(smaller, s.positions)
        a, seen_a = cross_image.masked_pool(own, step.mask, grid)
        b, seen_b = cross_image.masked_pool(fixed, step.mask, grid)
        return a, b, seen_a & seen_b

    def _pixel_terms(self, own: Tensor, fixed: Tensor, valid: Tensor, teacher: View, step: Step) -> dict[str, Tensor]:
        s, cross_image, terms = self.settings, losses.cross_image, {}
        if s.minibatch:
            terms["minibatch"] = s.minibatch * cross_image.pixel_relations(own, fixed, valid, s.temperature)
        if "projector" in self.parts:
            projected = self.parts["projector"](own)
            for name, contrast, there in self._contrast(teacher.detached().features[s.tap], step):
                term = cross_image.contrast_relations(projected, fixed, valid, contrast, there, s.temperature)
                terms[name] = getattr(s, name) * term
        return terms

    def after_step(self) -> None:
        """The embeddings of the step's batches join the queues."""
        for name, rows, there in self._waiting:
            self.parts[name].push(rows, there)  # type: ignore[operator]
        self._waiting = ()

    def _contrast(self, features: Tensor, step: Step) -> list[tuple[str, Tensor, Tensor]]:
        """Per memory in use: its name, sampled embeddings [M, C] and which of them there are."""
        s, cross_image, seen = self.settings, losses.cross_image, []
        where = (features, step.target, step.mask, self._classes)
        for name, size in (("pixel", s.pixel_contrast), ("region", s.region_contrast)):
            if name not in self.parts:
                continue
            if name == "pixel":
                rows, there = cross_image.choose_pixels(*where, s.queued, step.generator)
            else:
                rows, there = cross_image.class_regions(*where)
            # Kept until the step is done: with gradient accumulation it has several batches.
            self._waiting += ((name, rows, there),)
            count = size // self._classes + 1
            seen.append((name, *self.parts[name].sample(count, rows, there, step.generator)))  # type: ignore[operator]
        return seen
