"""The classes of the public segmentation sets: raw ids, names and colours, from ``segmentation_classes.yaml``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adm_core.yaml_file import read_mapping
from tasks.datasets.scenes import VOID, Colour, SceneFiles

_TABLES = Path(__file__).with_name("segmentation_classes.yaml")


@dataclass(frozen=True)
class ClassTable:
    """What the raw ids of a data set's label files stand for.

    Attributes:
        classes: the class names.
        palette: the colour of each class.
        ids: raw id to position in ``classes``, or ``VOID``.
    """

    classes: tuple[str, ...]
    palette: tuple[Colour, ...]
    ids: Mapping[int, int]

    def over(self, pairs: tuple[tuple[Path, Path], ...]) -> SceneFiles:
        """The segmentation set of these pairs of image file and label file."""
        return SceneFiles(pairs, self.ids, self.classes, self.palette)


def class_table(name: str) -> ClassTable:
    """The classes of one data set.

    Args:
        name: ``camvid``, ``cityscapes``, ``voc2012`` or ``ade20k``.
    """
    table: dict[str, Any] = read_mapping(_TABLES)[name]
    ids = {raw: label for label, (raw, _, _) in enumerate(table["classes"])}
    return ClassTable(
        classes=tuple(name for _, name, _ in table["classes"]),
        palette=tuple((red, green, blue) for _, _, (red, green, blue) in table["classes"]),
        ids=ids | dict.fromkeys(table["void"], VOID),
    )
