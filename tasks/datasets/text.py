"""Texts cut into windows of characters, each with the character that follows."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adm_core.errors import AdmError


@dataclass(frozen=True, eq=False)
class TextSet:
    """Consecutive windows of a text that do not overlap; checked when made.

    Attributes:
        windows: uint8 [N, T + 1], positions in ``classes``: T characters, each of which is to be predicted from those
            before it in the window, but for the first, and the character after them.
        classes: the alphabet.

    Raises:
        AdmError: a type, a shape or a character is not as above.
    """

    windows: NDArray[np.uint8]
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.windows.dtype != np.uint8 or self.windows.ndim != 2 or self.windows.shape[1] < 2:
            found = f"{self.windows.dtype} {list(self.windows.shape)}"
            raise AdmError(f"text set: windows must be uint8 [N, T + 1] with T of 1 or more, not {found}")
        if self.windows.size and self.windows.max() >= len(self.classes):
            raise AdmError(f"text set: characters must lie in 0..{len(self.classes) - 1}, not {self.windows.max()}")

    def __len__(self) -> int:
        return len(self.windows)

    @property
    def length(self) -> int:
        """T, how many characters a window predicts."""
        return int(self.windows.shape[1]) - 1

    def carve(self, size: float, seed: int = 0) -> tuple[TextSet, TextSet]:
        """Split into (train, validation): validation is the end of the text, so that neither interleaves the other.

        Args:
            size: share of the windows that becomes validation.
            seed: decides nothing here.

        Raises:
            AdmError: one of the two parts would be empty.
        """
        count = round(len(self) * size)
        if not 0 < count < len(self):
            raise AdmError(f"carving a validation split: {size} of {len(self)} windows leaves a part without any")
        return self._take(np.arange(len(self) - count)), self._take(np.arange(len(self) - count, len(self)))

    def limit(self, n: int) -> TextSet:
        """At most ``n`` windows, evenly spread over the text, order kept."""
        return self if n >= len(self) else self._take(np.arange(n) * len(self) // n)

    def digest(self) -> str:
        """sha256 (hex) over windows and alphabet: equal for equal content only; taken once."""
        return self._digest

    @functools.cached_property
    def _digest(self) -> str:
        found = hashlib.sha256(f"{''.join(self.classes)}|{self.windows.shape}|".encode())
        found.update(np.ascontiguousarray(self.windows).data)
        return found.hexdigest()

    def _take(self, index: NDArray[np.int64]) -> TextSet:
        return TextSet(self.windows[index], self.classes)


def windows(text: str, alphabet: tuple[str, ...], length: int) -> TextSet:
    """The windows of a text; each begins with the last character of the one before, and a shorter rest is left out.

    Args:
        text: of characters of the alphabet alone.
        alphabet: characters, of which there are at most 256.
        length: T.

    Raises:
        AdmError: a character is not in the alphabet.
    """
    codes = {character: code for code, character in enumerate(alphabet)}
    foreign = sorted(set(text) - codes.keys())
    if foreign:
        raise AdmError(f"the text has characters that are not in its alphabet: {' '.join(map(repr, foreign))}")
    characters = np.fromiter((codes[character] for character in text), np.uint8, len(text))
    count = (len(text) - 1) // length
    return TextSet(characters[np.arange(count)[:, None] * length + np.arange(length + 1)], alphabet)
