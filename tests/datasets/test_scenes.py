"""Segmentation sets: what they accept, how files are paired and decoded, and the subsets cut from them."""

import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from adm_core.errors import AdmError
from tasks.datasets.file_pairs import Files, pair, pair_listed, read_names
from tasks.datasets.scenes import VOID, SceneFiles, Scenes

RNG = np.random.default_rng(0)
CLASSES, PALETTE = ("ground", "tree"), ((0, 0, 0), (0, 255, 0))
IMAGES, LABELS, NAMES = np.zeros((3, 4, 5, 3), np.uint8), np.ones((3, 4, 5), np.uint8), ("a", "b", "c")


def numbered(count):
    """Scenes that carry their position in their first pixel and their name."""
    images = np.zeros((count, 2, 2, 3), dtype=np.uint8)
    images[:, 0, 0, 0] = np.arange(count)
    labels = np.where(images[..., 0] % 2, 1, VOID).astype(np.uint8)
    return Scenes(images, labels, CLASSES, PALETTE, tuple(f"train {i}" for i in range(count)))


def positions(scenes):
    found = [int(scenes.read(i)[0][0, 0, 0]) for i in range(len(scenes))]
    assert [scenes.name(i) for i in range(len(scenes))] == [f"train {i}" for i in found]
    assert all(scenes.read(k)[1][0, 0] == (1 if i % 2 else VOID) for k, i in enumerate(found))
    return found


def write(folder, name, image=None, labels=None, mode="L"):
    """A pair of files name.jpg-like (PNG, so that pixels survive) and name_ids.png."""
    folder.mkdir(parents=True, exist_ok=True)
    image = RNG.integers(0, 256, (4, 5, 3), dtype=np.uint8) if image is None else image
    labels = np.full(image.shape[:2], 7, dtype=np.uint8) if labels is None else labels
    Image.fromarray(image).save(folder / f"{name}.png")
    picture = Image.fromarray(labels)
    if mode == "P":
        picture.putpalette([value for _ in range(256) for value in (200, 0, 0)])
    picture.save(folder / f"{name}_ids.png")
    return folder / f"{name}.png", folder / f"{name}_ids.png"


def files(*pairs):
    return SceneFiles(pairs, {7: 0, 8: 1, 9: 1, 255: VOID}, CLASSES, PALETTE)


def test_a_limited_set_is_spread_evenly_and_always_the_same():
    whole = numbered(100)
    assert positions(whole.limit(4)) == [0, 25, 50, 75]
    assert positions(whole.limit(7)) == [i * 100 // 7 for i in range(7)]
    assert whole.limit(100) is whole and whole.limit(500) is whole
    with pytest.raises(AdmError, match="1 image or more, not to 0"):
        whole.limit(0)


def test_a_carved_split_is_complete_disjoint_and_repeatable():
    whole = numbered(50)
    train, validation = whole.carve(0.2, seed=3)
    assert len(validation) == 10 and sorted(positions(train) + positions(validation)) == list(range(50))
    assert positions(train) == sorted(positions(train)) and positions(validation) == sorted(positions(validation))
    assert positions(whole.carve(0.2, seed=3)[1]) == positions(validation) != positions(whole.carve(0.2, seed=4)[1])
    assert len(whole.carve(7)[1]) == 7


@pytest.mark.parametrize("size", [0.0, 1.0, 0, 50, -1])
def test_an_empty_part_is_refused(size):
    with pytest.raises(AdmError, match="carving a validation split"):
        numbered(50).carve(size)


def test_files_are_cut_as_scenes_are(tmp_path):
    whole = files(*(write(tmp_path, f"{i:02}") for i in range(10)))
    scenes = numbered(10)
    names = [[part.name(i) for i in range(len(part))] for part in (whole.limit(3), *whole.carve(0.3, seed=5))]
    expected = [positions(part) for part in (scenes.limit(3), *scenes.carve(0.3, seed=5))]
    assert names == [[f"{i:02}.png" for i in part] for part in expected]


def test_the_digest_of_files_sees_their_names_sizes_and_ids(tmp_path):
    whole = files(*(write(tmp_path, f"{i:02}") for i in range(3)))
    others = whole.limit(2), replace(whole, ids={**whole.ids, 9: 0}), replace(whole, classes=("ground", "bush"))
    assert len({whole.digest(), *(other.digest() for other in others)}) == 4
    assert files(*(write(tmp_path / "copy", f"{i:02}") for i in range(3))).digest() == whole.digest()
    before = whole.digest()
    with whole.pairs[0][0].open("ab") as file:
        file.write(b" ")
    assert replace(whole).digest() != before


def test_the_digest_sees_pixels_labels_and_classes_only():
    whole = Scenes(IMAGES, LABELS, CLASSES, PALETTE, NAMES)
    changed = IMAGES.copy()
    changed[2, 3, 4, 1] = 1
    assert Scenes(IMAGES, LABELS, CLASSES, PALETTE[::-1], NAMES[::-1]).digest() == whole.digest()
    others = [
        Scenes(changed, LABELS, CLASSES, PALETTE, NAMES),
        Scenes(IMAGES, LABELS * 0, CLASSES, PALETTE, NAMES),
        Scenes(IMAGES, LABELS, ("ground", "bush"), PALETTE, NAMES),
        Scenes(IMAGES.transpose(0, 2, 1, 3), LABELS.transpose(0, 2, 1), CLASSES, PALETTE, NAMES),
    ]
    assert len({whole.digest(), *(other.digest() for other in others)}) == 5


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"images": IMAGES.astype(np.float32)}, r"images must be uint8 \[N, H, W, 3\], not float32 \[3, 4, 5, 3\]"),
        ({"images": IMAGES.transpose(0, 3, 1, 2)}, r"not uint8 \[3, 3, 4, 5\]"),
        ({"labels": LABELS[:2]}, r"labels must be uint8 \[3, 4, 5\], not uint8 \[2, 4, 5\]"),
        ({"labels": LABELS.astype(np.int64)}, "not int64"),
        ({"labels": LABELS + 1}, r"a has label 2 at row 0, column 0; labels are 0\.\.1, or 255 for void"),
        ({"names": NAMES[:2]}, "3 images need as many names, not 2"),
        ({"palette": PALETTE[:1]}, "2 classes needs as many colours, not 1"),
        ({"classes": ()}, "1 to 255 classes, not 0"),
    ],
)
def test_what_are_not_scenes_is_refused(change, says):
    whole = {"images": IMAGES, "labels": LABELS, "classes": CLASSES, "palette": PALETTE, "names": NAMES}
    with pytest.raises(AdmError, match=says):
        Scenes(**{**whole, **change})


@pytest.mark.parametrize("ids", [{300: 0}, {-1: VOID}, {3: 2}, {3: -1}])
def test_ids_that_stand_for_nothing_are_refused(ids):
    with pytest.raises(AdmError, match=r"raw ids are 0\.\.255, labels 0\.\.1, or 255 for void"):
        SceneFiles((), ids, CLASSES, PALETTE)


@pytest.mark.parametrize("mode", ["L", "P"])
def test_a_label_file_gives_its_ids_grey_or_with_a_palette(tmp_path, mode):
    image = RNG.integers(0, 256, (2, 3, 3), dtype=np.uint8)
    raw = np.array([[7, 8, 9], [255, 7, 255]], dtype=np.uint8)
    found, labels = files(write(tmp_path, "a", image, raw, mode)).read(0)
    assert np.array_equal(found, image) and found.dtype == labels.dtype == np.uint8
    assert labels.tolist() == [[0, 1, 1], [VOID, 0, VOID]]
    assert found.flags.writeable and labels.flags.writeable


def test_grey_images_are_read_as_rgb_and_void_everywhere_is_no_error(tmp_path):
    image, labels = write(tmp_path, "a", labels=np.full((4, 5), 255, np.uint8))
    Image.new("L", (5, 4), 9).save(image)
    pixels, found = files((image, labels)).read(0)
    assert pixels.shape == (4, 5, 3) and (pixels == 9).all() and (found == VOID).all()


def test_what_is_wrong_with_a_pair_is_told_with_the_file(tmp_path):
    image, labels = write(tmp_path, "a", labels=np.array([[7, 8], [13, 12]], dtype=np.uint8))
    with pytest.raises(AdmError, match=f"{image} is 5x4 and its labels {labels} are 2x2; they must"):
        files((image, labels)).read(0)
    write(tmp_path, "a", labels=np.array([[7] * 5, [13] * 5, [12] * 5, [7] * 5], dtype=np.uint8))
    with pytest.raises(AdmError, match=re.escape(f"{labels} holds label id 12; known ids are 7..9, 255")):
        files((image, labels)).read(0)
    Image.new("RGB", (5, 4)).save(labels)
    with pytest.raises(AdmError, match=f"{labels} is a picture in mode RGB; .* colours instead of their ids"):
        files((image, labels)).read(0)
    for file in (labels, image):
        file.write_bytes(file.read_bytes()[:40])
        with pytest.raises(AdmError, match=f"{file} is damaged: .*; delete it and get it anew"):
            files((image, labels)).read(0)


def test_a_set_read_into_memory_has_one_size(tmp_path):
    pairs = [write(tmp_path, "a"), write(tmp_path, "b")]
    scenes = files(*pairs).in_memory()
    assert scenes.images.shape == (2, 4, 5, 3) and scenes.names == ("a.png", "b.png")
    assert all(
        np.array_equal(*both) for i in (0, 1) for both in zip(scenes.read(i), files(*pairs).read(i), strict=True)
    )
    odd = write(tmp_path, "c", np.zeros((5, 4, 3), np.uint8))
    with pytest.raises(AdmError, match=rf"{odd[0]} is 4x5, but {pairs[0][0]} is 5x4"):
        files(*pairs, odd).in_memory()
    with pytest.raises(AdmError, match="no image"):
        files().in_memory()


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_folders_are_paired_by_name(tmp_path):
    images, labels = Files(tmp_path / "i", "_x.png"), Files(tmp_path / "l", "_y.png")
    touch(tmp_path, "i/ulm/2_x.png", "i/aachen/1_x.png", "i/ulm/._2_x.png", "i/ulm/2_z.png")
    touch(tmp_path, "l/ulm/2_y.png", "l/aachen/1_y.png", "l/ulm/2_colour.png")
    expected = [("i/aachen/1_x.png", "l/aachen/1_y.png"), ("i/ulm/2_x.png", "l/ulm/2_y.png")]
    assert pair(images, labels) == tuple((tmp_path / image, tmp_path / label) for image, label in expected)


def test_files_without_partner_are_named_with_the_partner(tmp_path):
    images, labels = Files(tmp_path / "i", ".jpg"), Files(tmp_path / "l", ".png")
    with pytest.raises(AdmError, match=rf"{tmp_path / 'i'} holds no file \*\.jpg"):
        pair(images, labels)
    touch(tmp_path, "i/a.jpg", "i/b.jpg", "l/a.png", "l/c.png")
    with pytest.raises(AdmError) as caught:
        pair(images, labels)
    assert str(caught.value).splitlines() == [
        f"{tmp_path / 'i/b.jpg'} has no partner {tmp_path / 'l/b.png'}",
        f"{tmp_path / 'l/c.png'} has no partner {tmp_path / 'i/c.jpg'}",
    ]
    touch(tmp_path, *(f"i/d{i}.jpg" for i in range(5)))
    with pytest.raises(AdmError, match=r"d1\.png\nand 4 more files without partner"):
        pair(images, labels)


def test_a_list_is_one_name_a_line_and_each_must_be_there(tmp_path):
    listing = tmp_path / "train.txt"
    images, labels = Files(tmp_path / "i", ".jpg"), Files(tmp_path / "l", ".png")
    touch(tmp_path, "i/a.jpg", "i/b.jpg", "i/other.jpg", "l/a.png")
    listing.write_text("b\na \n\n")
    assert read_names(listing) == ["b", "a"]
    with pytest.raises(AdmError, match=f"^{listing} names {tmp_path / 'l/b.png'}, which is missing$"):
        pair_listed(listing, read_names(listing), images, labels)
    touch(tmp_path, "l/b.png")
    assert [image.name for image, _ in pair_listed(listing, read_names(listing), images, labels)] == ["b.jpg", "a.jpg"]
    for wrong in ("a\n/JPEGImages/b.jpg", "a\nb 1"):
        listing.write_text(wrong)
        with pytest.raises(AdmError, match=f"{listing} is damaged: line 2 is '.*b.*'; a line holds one name"):
            read_names(listing)
    listing.write_text("\n")
    with pytest.raises(AdmError, match=f"{listing} is damaged: it is empty"):
        read_names(listing)
