"""Pascal VOC 2012 from its development kit, with or without SBD's labels for training; decoded when read."""

from __future__ import annotations

from pathlib import Path

from adm_core.errors import AdmError
from tasks.datasets.class_table import class_table
from tasks.datasets.file_pairs import Files, pair_listed, read_names
from tasks.datasets.scenes import SceneFiles
from tasks.datasets.source import Split

_LIST: dict[Split, str] = {"train": "train", "test": "val"}


def read(folder: Path, split: Split) -> SceneFiles:
    """1,464 training images, or the 1,449 validation images as the test split, whose own labels are not public.

    Raises:
        AdmError: a list is damaged, or names an image or a label file that is missing.
    """
    listing = _listing(folder, _LIST[split])
    pairs = pair_listed(listing, read_names(listing), _images(folder), _labels(folder, ""))
    return class_table("voc2012").over(pairs)


def read_augmented(folder: Path, split: Split) -> SceneFiles:
    """10,582 training images, in the order of their names, or the same test split as :func:`read`.

    An image of VOC's own list ``train`` has VOC's labels; any other of ``trainaug`` has those of SBD (Hariharan et
    al., ICCV 2011), which are coarser and have no void border.

    Raises:
        AdmError: as :func:`read`; or ``trainaug`` names an image of the test split.
    """
    if split == "test":
        return read(folder, split)
    listing = _listing(folder, "trainaug")
    names = sorted(read_names(listing))
    tested = sorted(set(names) & set(read_names(_listing(folder, "val"))))
    if tested:
        raise AdmError(
            f"{listing} names {len(tested)} images of val.txt, which is the test split, e.g. '{tested[0]}'; "
            "it must hold the 10,582 names that are not in val.txt"
        )
    own = set(read_names(_listing(folder, "train")))
    ours = pair_listed(listing, [name for name in names if name in own], _images(folder), _labels(folder, ""))
    added = pair_listed(listing, [name for name in names if name not in own], _images(folder), _labels(folder, "Aug"))
    return class_table("voc2012").over(tuple(sorted(ours + added)))


def _listing(folder: Path, name: str) -> Path:
    return folder / "ImageSets" / "Segmentation" / f"{name}.txt"


def _images(folder: Path) -> Files:
    return Files(folder / "JPEGImages", ".jpg")


def _labels(folder: Path, ending: str) -> Files:
    return Files(folder / f"SegmentationClass{ending}", ".png")
