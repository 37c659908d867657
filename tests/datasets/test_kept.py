"""Sets that are made or decoded once: they come back equal, and are made anew where what they come from moves."""

import os
from dataclasses import fields

import numpy as np
import pytest
from PIL import Image

from tasks import datasets
from tasks.datasets import kept as module
from tasks.datasets.kept import kept


def same(one, other):
    """Whether two sets are equal in type and every field, down to the types of what is in them."""
    values = [[(field.name, getattr(each, field.name)) for field in fields(each)] for each in (one, other)]
    arrays = [{name: value for name, value in each if isinstance(value, np.ndarray)} for each in values]
    rest = [[(name, value) for name, value in each if not isinstance(value, np.ndarray)] for each in values]
    alike = arrays[0].keys() == arrays[1].keys() and all(
        array.dtype == arrays[1][name].dtype and np.array_equal(array, arrays[1][name])
        for name, array in arrays[0].items()
    )
    return type(one) is type(other) and alike and repr(rest[0]) == repr(rest[1])


@pytest.fixture
def fresh():
    """No embedded set is remembered by this process."""
    datasets._made.cache_clear()
    yield
    datasets._made.cache_clear()


def never():
    raise AssertionError("it was made again")


@pytest.mark.parametrize("name", ["digit-scenes", "shape-scenes", "digits"])
def test_an_embedded_set_is_made_once_and_comes_back_equal(tmp_path, fresh, monkeypatch, name):
    plain = datasets.load(name, "validation", [])
    assert same(datasets.load(name, "validation", [], keep_in=tmp_path), plain)
    datasets._made.cache_clear()
    monkeypatch.setattr(datasets, "_function", lambda _path: never)
    again = datasets.load(name, "validation", [], keep_in=tmp_path)
    assert same(again, plain) and again.digest() == plain.digest()


def camvid(root, colour=0):
    for split in ("train", "val", "test"):
        for folder, pixels in ((split, np.full((4, 6, 3), colour, np.uint8)), (f"{split}annot", np.ones((4, 6)))):
            (root / "camvid" / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(root / "camvid" / folder / "a.png")


def test_decoded_files_are_kept_until_one_of_them_changes(tmp_path, monkeypatch):
    camvid(tmp_path)
    store = tmp_path / "artefacts"

    def load():
        return datasets.load("camvid", "train", [tmp_path], keep_in=store)

    first = load()
    with monkeypatch.context() as patch:
        patch.setattr(datasets, "_function", lambda _path: lambda *_: never())
        assert same(load(), first)
    camvid(tmp_path, colour=9)  # files of the same names and sizes
    for file in (tmp_path / "camvid").rglob("*.png"):
        os.utime(file, ns=(1, 1))
    assert (load().images == 9).all() and len(list((store / "data").iterdir())) == 2


def test_other_code_another_library_and_a_damaged_file_are_made_anew(tmp_path, monkeypatch):
    made = datasets.load("digits", "test", [])

    def make():
        return kept(tmp_path, "digits-test", None, lambda: made)

    make()
    (file,) = (tmp_path / "data").iterdir()
    content = file.read_bytes()
    file.write_bytes(content[:100])
    assert make() is made and file.read_bytes() == content and make() is not made
    with monkeypatch.context() as patch:
        patch.setattr(module, "version", lambda _library: "0")
        assert make() is made
    monkeypatch.setattr(module.source, "of_folders", lambda _folders: "other")
    assert make() is made and len(list((tmp_path / "data").iterdir())) == 3
