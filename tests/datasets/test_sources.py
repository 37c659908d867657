"""Finding data sets, reading their public layouts, and what is said when they are missing or damaged."""

import gzip
import hashlib
import os
import pickle
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from timm.data import ImageNetInfo
from torchvision.datasets import CIFAR10, CIFAR100, ImageFolder

from adm_core.errors import AdmError
from tasks import datasets
from tasks.datasets.catalogue import SOURCES
from tasks.datasets.class_folders import list_images

RNG = np.random.default_rng(0)


def write_idx(file: Path, array: np.ndarray) -> None:
    content = bytes((0, 0, 8, array.ndim)) + np.array(array.shape, dtype=">u4").tobytes() + array.tobytes()
    file.write_bytes(gzip.compress(content) if file.suffix == ".gz" else content)


def write_fashion_mnist(folder: Path, ending: str = "") -> dict[str, np.ndarray]:
    folder.mkdir(parents=True, exist_ok=True)
    written = {}
    for prefix, count in (("train", 12), ("t10k", 5)):
        written[prefix] = RNG.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        write_idx(folder / f"{prefix}-images-idx3-ubyte{ending}", written[prefix])
        write_idx(folder / f"{prefix}-labels-idx1-ubyte{ending}", np.arange(count, dtype=np.uint8) % 10)
    return written


def write_cifar(root: Path, kind: type[CIFAR10], monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """A release of 7 images a file in the public layout; torchvision is told these files' md5 sums."""
    folder, key = root / kind.base_folder, "fine_labels" if kind is CIFAR100 else "labels"
    folder.mkdir(parents=True)
    pixels = RNG.integers(0, 256, (7, 3, 32, 32), dtype=np.uint8)
    names = [f"class {n}" for n in range(100 if kind is CIFAR100 else 10)]

    def write(name: str, content: dict[str, object]) -> list[str]:
        (folder / name).write_bytes(pickle.dumps(content, protocol=2))
        return [name, hashlib.md5((folder / name).read_bytes()).hexdigest()]

    images = {"data": pixels.reshape(7, -1), key: list(range(7))}
    for listing in ("train_list", "test_list"):
        files = [write(str(name), images) for name, _ in getattr(kind, listing)]
        monkeypatch.setattr(kind, listing, files)
    meta = write(kind.meta["filename"], {kind.meta["key"]: names})
    monkeypatch.setattr(kind, "meta", {**kind.meta, "md5": meta[1]})
    return pixels


def write_image(file: Path, size: int = 64, colour: tuple[int, int, int] = (200, 30, 60)) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (size, size), colour).save(file, quality=95)


def write_tiny_imagenet(root: Path) -> Path:
    folder = root / "tiny-imagenet-200"
    for number, wnid in enumerate(("n02", "n01")):
        for image in range(3):
            write_image(folder / "train" / wnid / "images" / f"{wnid}_{image}.JPEG", colour=(100 * number, 0, 0))
    for image, wnid in enumerate(("n01", "n02")):
        write_image(folder / "val" / "images" / f"val_{image}.JPEG")
        with (folder / "val" / "val_annotations.txt").open("a") as listing:
            listing.write(f"val_{image}.JPEG\t{wnid}\t0\t0\t62\t62\n")
    (folder / "wnids.txt").write_text("n02\nn01\n")
    return folder


def test_roots_are_listed_like_a_path():
    environment = {"ADM_DATA": os.pathsep.join(("/a", "", "~/b"))}
    assert datasets.roots_from_environment(environment) == [Path("/a"), Path.home() / "b"]
    assert datasets.roots_from_environment({}) == []


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(AdmError, match=r"unknown data set 'cifar-100'.*cifar100"):
        datasets.load("cifar-100", "train", [])


@pytest.mark.parametrize("name", [name for name, source in SOURCES.items() if not source.embedded])
def test_a_missing_set_says_what_where_and_how(name, tmp_path):
    roots = [tmp_path / "one", tmp_path / "two"]
    with pytest.raises(AdmError) as caught:
        datasets.load(name, "train", roots)
    message = str(caught.value)
    assert "was not found" in message and "to get it:" in message and "ADM_DATA" in message
    assert all(str(root) in message for root in roots)
    found, text = datasets.available(name, roots)
    assert not found and text in message
    with pytest.raises(AdmError, match="no data root is set"):
        datasets.load(name, "train", [])


def test_only_sets_with_a_validation_split_of_their_own_have_one(tmp_path):
    assert len(datasets.load("digit-scenes", "validation", [])) == 1000
    with pytest.raises(AdmError, match="CIFAR-100 has no split 'validation' of its own, only train, test"):
        datasets.load("cifar100", "validation", [tmp_path])


def test_asking_what_is_there_loads_no_torch():
    code = (
        "import sys; from pathlib import Path; from tasks import datasets\n"
        "for name in datasets.names(): datasets.available(name, [Path('.')])\n"
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


@pytest.mark.parametrize("place", ["FashionMNIST/raw", "."])
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_fashion_mnist_is_read_packed_or_not_from_either_layout(tmp_path, place, ending):
    written = write_fashion_mnist(tmp_path / place, ending)
    assert datasets.available("fashion-mnist", [tmp_path]) == (True, str(tmp_path / place))
    for split, prefix in (("train", "train"), ("test", "t10k")):
        found = datasets.load("fashion-mnist", split, [tmp_path / "nowhere", tmp_path])
        assert np.array_equal(found.images, np.stack([written[prefix]] * 3, axis=1))
        assert np.array_equal(found.labels, np.arange(len(found)) % 10)
    assert found.classes[9] == "Ankle boot"


def truncate(file: Path, to: float = 0.5) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * to)])


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_a_damaged_idx_file_is_named(tmp_path, ending):
    write_fashion_mnist(tmp_path, ending)
    file = tmp_path / f"train-images-idx3-ubyte{ending}"
    for spoil in (truncate, lambda f: f.write_bytes(b""), lambda f: f.write_bytes(b"<html>not found</html>" * 9)):
        write_fashion_mnist(tmp_path, ending)
        spoil(file)
        with pytest.raises(AdmError, match=f"{file} is damaged"):
            datasets.load("fashion-mnist", "train", [tmp_path])


def test_labels_that_do_not_fit_the_images_are_refused(tmp_path):
    write_fashion_mnist(tmp_path)
    write_idx(tmp_path / "train-labels-idx1-ubyte", np.zeros(4, dtype=np.uint8))
    with pytest.raises(AdmError, match="holds 4 labels for the 12 images"):
        datasets.load("fashion-mnist", "train", [tmp_path])
    write_idx(tmp_path / "train-labels-idx1-ubyte", np.full(12, 10, dtype=np.uint8))
    with pytest.raises(AdmError, match="it holds the label 10, and there are 10 classes"):
        datasets.load("fashion-mnist", "train", [tmp_path])


@pytest.mark.parametrize(("name", "kind"), [("cifar10", CIFAR10), ("cifar100", CIFAR100)])
def test_cifar_is_read_from_its_public_layout(tmp_path, monkeypatch, name, kind):
    pixels = write_cifar(tmp_path, kind, monkeypatch)
    train, test = (datasets.load(name, split, [tmp_path]) for split in ("train", "test"))
    assert np.array_equal(test.images, pixels)
    assert np.array_equal(train.images, np.concatenate([pixels] * len(kind.train_list)))
    assert train.classes[3] == "class 3" and test.labels.tolist() == list(range(7))


@pytest.mark.parametrize(("name", "kind"), [("cifar10", CIFAR10), ("cifar100", CIFAR100)])
def test_a_damaged_or_missing_cifar_file_is_named(tmp_path, monkeypatch, name, kind):
    write_cifar(tmp_path, kind, monkeypatch)
    meta = tmp_path / kind.base_folder / kind.meta["filename"]
    whole = meta.read_bytes()
    truncate(meta)
    with pytest.raises(AdmError, match=f"{meta} is damaged: its md5 sum"):
        datasets.load(name, "train", [tmp_path])
    meta.write_bytes(whole)
    images = tmp_path / kind.base_folder / kind.train_list[-1][0]
    truncate(images)
    with pytest.raises(AdmError, match=f"{images} is damaged"):
        datasets.load(name, "train", [tmp_path])
    if name == "cifar10":
        images.unlink()
        with pytest.raises(AdmError, match=f"{images} is missing"):
            datasets.load(name, "train", [tmp_path])


def test_tiny_imagenet_is_read_from_its_public_layout(tmp_path):
    write_tiny_imagenet(tmp_path)
    train, test = (datasets.load("tiny-imagenet", split, [tmp_path]) for split in ("train", "test"))
    assert train.classes == ("n01", "n02") and train.images.shape == (6, 3, 64, 64)
    assert train.labels.tolist() == [0, 0, 0, 1, 1, 1] and test.labels.tolist() == [0, 1]
    assert abs(int(train.images[0, 0, 5, 5]) - 100) < 3 and train.images[5].max() < 3


def test_damage_in_tiny_imagenet_is_named(tmp_path):
    folder = write_tiny_imagenet(tmp_path)
    broken = folder / "train" / "n01" / "images" / "n01_1.JPEG"
    truncate(broken)
    with pytest.raises(AdmError, match=f"{broken} is damaged"):
        datasets.load("tiny-imagenet", "train", [tmp_path])
    write_image(broken, size=32)
    with pytest.raises(AdmError, match=f"{broken} is damaged: it is 32x32, not 64x64"):
        datasets.load("tiny-imagenet", "train", [tmp_path])
    listing = folder / "val" / "val_annotations.txt"
    listing.write_text("val_0.JPEG\tn77\n")
    with pytest.raises(AdmError, match=r"class 'n77', which is not in wnids\.txt"):
        datasets.load("tiny-imagenet", "test", [tmp_path])
    listing.write_text("val_0.JPEG n01\n")
    with pytest.raises(AdmError, match=r"val_annotations\.txt is damaged: line 1"):
        datasets.load("tiny-imagenet", "test", [tmp_path])


def write_class_folders(root: Path, names: Iterable[str]) -> Path:
    """ImageNet's layout with one small image a class in either split."""
    names = list(names)
    write_image(root / "one.JPEG", size=4)
    content = (root / "one.JPEG").read_bytes()
    for split in ("train", "val"):
        for name in names:
            folder = root / "imagenet" / split / name
            folder.mkdir(parents=True)
            (folder / f"{split}.JPEG").write_bytes(content)
    return root / "imagenet"


def test_imagenet_is_a_folder_of_class_folders_named_by_wordnet(tmp_path):
    ids = ImageNetInfo().label_names()
    folder = write_class_folders(tmp_path, ids)
    datasets.require("imagenet", [tmp_path], classes=1000)
    test = datasets.load("imagenet", "test", [tmp_path])
    assert test.classes == tuple(ids) and len(test) == 1000 and test.files[1].endswith(f"{ids[1]}/val.JPEG")
    for split in ("train", "val"):
        (folder / split / ids[3]).rename(folder / split / "tiger shark")
    with pytest.raises(AdmError, match=r"train holds class folders .* e\.g\. 'tiger shark', so that its"):
        datasets.load("imagenet", "train", [tmp_path])


def test_case_02_a_folder_of_other_classes_is_no_imagenet(tmp_path):
    """hunto/DIST_KD#7: three classes passed as ImageNet, numbered otherwise than a teacher's."""
    folder = write_class_folders(tmp_path, ["n01440764", "n01443537", "n01484850"])
    with pytest.raises(AdmError, match=rf"^{folder}: found 3 classes, the benchmark has 1000; .*'benchmarks'$"):
        datasets.require("imagenet", [tmp_path], classes=1000)
    (folder / "val" / "n03").mkdir()
    with pytest.raises(AdmError, match=r"different classes: 1 are in one alone, e\.g\. 'n03'"):
        datasets.load("imagenet", "train", [tmp_path])
    (folder / "val" / "n03").rmdir()
    (folder / "train" / "n01443537" / "train.JPEG").unlink()
    with pytest.raises(AdmError, match=r"n01443537 holds no image \(\.jpg, .*\); fill it, or remove it"):
        datasets.load("imagenet", "train", [tmp_path])


def test_case_03_hidden_entries_are_no_classes_and_no_images(tmp_path):
    """pytorch/vision#2831: a notebook's folder became class 0, macOS's shadows of files became images."""
    names = ["n01440764", "n01443537"]
    folder = write_class_folders(tmp_path, names)
    before = list_images(folder / "train")
    for split in ("train", "val"):
        (folder / split / ".ipynb_checkpoints").mkdir()
        (folder / split / ".ipynb_checkpoints" / "0.JPEG").write_bytes(b"x")
        (folder / split / names[0] / "._train.JPEG").write_bytes(b"x")
        (folder / split / names[0] / ".thumbnails").mkdir()
        (folder / split / names[0] / ".thumbnails" / "0.JPEG").write_bytes(b"x")
    after = list_images(folder / "train")
    assert after.classes == tuple(names) and after.files == before.files and after.labels.tolist() == [0, 1]
    assert datasets.load("imagenet", "test", [tmp_path]).classes == tuple(names)


def test_case_03_hidden_files_are_no_images_of_tiny_imagenet(tmp_path):
    folder = write_tiny_imagenet(tmp_path)
    before = datasets.load("tiny-imagenet", "train", [tmp_path])
    for images in (folder / "train").glob("*/images"):
        (images / "._n01_9.JPEG").write_bytes(b"x")
    assert datasets.load("tiny-imagenet", "train", [tmp_path]).digest() == before.digest()


def test_files_are_listed_as_torchvision_lists_them(tmp_path):
    for place in ("b/2.png", "b/sub/1.jpg", "b/10.PNG", "a/x.webp", "b/sub-a/0.bmp", "b/notes.txt"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_bytes(b"")
    theirs, ours = ImageFolder(str(tmp_path)), list_images(tmp_path)
    assert list(ours.files) == [file for file, _ in theirs.samples]
    assert ours.labels.tolist() == theirs.targets and list(ours.classes) == theirs.classes


def test_a_download_that_fails_is_one_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(AdmError, match=r"downloading CIFAR-100 into .* failed"):
        datasets.load("cifar100", "train", [tmp_path / "file" / "root"], download=True)


def test_the_real_cifar100():
    roots = datasets.roots_from_environment()
    if not datasets.available("cifar100", roots)[0]:
        pytest.skip("ADM_DATA names no data root that holds CIFAR-100")
    train, test = (datasets.load("cifar100", split, roots) for split in ("train", "test"))
    assert train.images.shape == (50000, 3, 32, 32) and test.images.shape == (10000, 3, 32, 32)
    assert set(np.bincount(train.labels)) == {500} and set(np.bincount(test.labels)) == {100}
    assert train.classes[:2] == ("apple", "aquarium_fish")
    np.testing.assert_allclose(train.images.mean(axis=(0, 2, 3)) / 255, [0.50707516, 0.48654887, 0.44091784], atol=1e-7)
    carved, validation = train.carve(0.1)
    assert set(np.bincount(validation.labels)) == {50} and len(carved) == 45000
