"""Af-DCD: restore the teacher's features and tell them apart, channel group by group (Fan et al., NeurIPS 2023)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from adm_core import losses
from adm_core.method import Facts, Losses, Method, MethodCard, Needs, Shapes, Step, View
from adm_core.registry import register
from adm_core.settings import Tap, searched

if TYPE_CHECKING:
    from torch import nn


@register
class AugmentationFree(Method):
    """``weight / B Σ (R - F_t)² + contrast · L(R, F_t)``, R restored from a part of the student's features.

    R is MGD's: a 1×1 convolution, each position hidden with probability ``ratio``, a 3×3 convolution, ReLU and
    another. L contrasts groups of channels within patches (:func:`adm_core.losses.contrast.patch_contrast`). The
    authors add KD at T = 1: compose ``kd+af-dcd`` with ``kd: {temperature: 1, weight: 1, task_weight: 1}``.

    As in their code (OSVAI/Af-DCD at 5b086a7), but for what cannot be told from it: its scripts ask for a fixed block
    hidden and a generator of two paths, by words which its parser takes otherwise or does not know. On CamVid it does
    not pool (``pool: 1``). Where ``groups`` is no divisor of the teacher's width their greatest common divisor is
    taken, and pooled windows shrink on maps that would not hold a patch.
    """

    card = MethodCard(
        name="af-dcd",
        title="Augmentation-free Dense Contrastive Knowledge Distillation",
        paper="NeurIPS 2023 (Fan et al.)",
        year=2023,
        regimes=frozenset({"offline"}),
        family="features",
        version=2,
    )

    @dataclass(frozen=True)
    class Settings:
        """Defaults are the authors' on Cityscapes.

        Attributes:
            tap: the features' place; the backbone's last map, as in the authors' code.
            weight: of restoring; 1e-6 on Pascal VOC and ADE20K, 8e-6 on CamVid.
            contrast: weight of L; 0.01 on CamVid, 0.04 on ADE20K.
            ratio: share of the student's positions that is hidden.
            groups: M, of channels.
            patch: positions a side.
            pool: side of the windows by which maps are max-pooled for L.
            temperature: of L.
        """

        tap: Tap = "last"
        weight: Annotated[float, Field(ge=0)] = searched(2e-6, 2e-7, 2e-4)
        contrast: Annotated[float, Field(ge=0)] = searched(0.005, 0.0005, 0.5)
        ratio: Annotated[float, Field(ge=0, lt=1)] = 0.75
        groups: Annotated[int, Field(ge=2)] = 16
        patch: Annotated[int, Field(ge=1)] = 4
        pool: Annotated[int, Field(ge=1)] = 4
        temperature: Annotated[float, Field(gt=0)] = 0.07

    @property
    def needs(self) -> Needs:  # type: ignore[override]
        """Feature maps at corresponding positions."""
        return Needs(taps=(self.settings.tap,), views="shared", capabilities=frozenset({"trainable-parts"}))

    def supports(self, student: Shapes, teacher: Shapes, regime: str) -> str | None:
        """The tap must be a map that holds a patch, its channels must fall into groups."""
        from adm_core import align

        s, reason = self.settings, align.why_not_maps(self.needs.taps, student, teacher)
        if reason:
            return reason
        side = min(*student[s.tap][2:], *teacher[s.tap][2:])
        if side < s.patch:
            return f"maps of {side} positions a side hold no patch of {s.patch}x{s.patch} (setting 'patch')"
        if math.gcd(s.groups, teacher[s.tap][1]) == 1:
            return f"the teacher's {teacher[s.tap][1]} channels do not fall into {s.groups} groups or a divisor of it"
        return None

    def build(self, student: Shapes, teacher: Shapes, facts: Facts) -> dict[str, nn.Module]:
        """The 1×1 convolution and the generator."""
        from adm_core import align

        own, width = student[self.settings.tap][1], teacher[self.settings.tap][1]
        return {"adapter": align.make_width_adapter(own, width, bias=True), "generator": align.make_generator(width)}

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """Terms ``restored`` and ``contrast``."""
        from adm_core import align

        s = self.settings
        own, target = align.match_size(student.features[s.tap], teacher.detached().features[s.tap])
        aligned = self.parts["adapter"](own)
        keep = losses.features.random_keep(aligned, s.ratio, "positions", step.generator)
        restored, groups = self.parts["generator"](aligned * keep), math.gcd(s.groups, target.shape[1])
        distance = losses.features.squared_distance(restored, target, step.mask)
        contrast = losses.contrast.patch_contrast(restored, target, groups, s.patch, s.pool, s.temperature, step.mask)
        return Losses(student={"restored": s.weight * distance, "contrast": s.contrast * contrast})
