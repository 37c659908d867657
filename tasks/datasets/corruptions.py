"""Pictures as they look under noise, blur, weather and compression: one function each, the same bits every time.

Definitions follow Hendrycks and Dietterich (arXiv:1903.12261); :mod:`.severities` has the numbers, and says what is
left out. What is random is drawn from the raw stream of PCG64 (:func:`tasks.datasets.images.uniform`).
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import convolve, gaussian_filter
from scipy.special import ndtri

from adm_core.condition import Shift
from tasks.datasets.images import uniform
from tasks.datasets.severities import SEVERITIES, SMALL

Pixels = NDArray[np.uint8]
Values = NDArray[np.float64]
Seed = tuple[int, ...]


def corrupted(picture: Pixels, shift: Shift) -> Pixels:
    """A picture under a shift: by one of its corruptions, which follows from the shift's seed and the picture's pixels.

    So a picture looks the same in every run, whichever others there are.

    Args:
        picture: uint8 [H, W, 3] RGB, 0..255.
        shift: names, severity and seed.

    Returns:
        uint8 [H, W, 3].
    """
    told = hashlib.sha256(np.ascontiguousarray(picture).data).digest()
    seed = (shift.seed, *np.frombuffer(told[:16], dtype="<u4").tolist())
    which = int(uniform((*seed, 0), 1)[0] * len(shift.corruptions))
    return corrupt(picture, shift.corruptions[which], shift.severity, (*seed, 1))


def corrupt(picture: Pixels, name: str, severity: int, seed: Seed) -> Pixels:
    """A picture under one corruption.

    Args:
        picture: uint8 [H, W, 3] RGB, 0..255.
        name: of :data:`tasks.datasets.severities.SEVERITIES`.
        severity: 1 to 5; the numbers are those of small pictures up to a shorter side of ``SMALL`` pixels.
        seed: of what is random.

    Returns:
        uint8 [H, W, 3].
    """
    number = SEVERITIES[name][min(picture.shape[:2]) > SMALL][severity - 1]
    changed = _CORRUPTIONS[name](picture / 255.0, number, seed)
    return np.rint(np.clip(changed, 0, 1) * 255).astype(np.uint8)


def normal(seed: Seed, *shape: int) -> Values:
    """Draws from the standard normal distribution, float64 of the shape given, by inversion."""
    # an end of the interval would become infinite
    found: Values = ndtri(uniform(seed, int(np.prod(shape))) + 2.0**-54)
    return found.reshape(shape)


def _gaussian_noise(x: Values, deviation: float, seed: Seed) -> Values:
    return x + deviation * normal(seed, *x.shape)


def _speckle_noise(x: Values, deviation: float, seed: Seed) -> Values:
    return x + x * deviation * normal(seed, *x.shape)


def _impulse_noise(x: Values, share: float, seed: Seed) -> Values:
    """Values of single channels turned to 0 or 1, either as likely."""
    drawn = uniform(seed, x.size).reshape(x.shape)
    return np.asarray(np.where(drawn < share, drawn < share / 2, x))


def _gaussian_blur(x: Values, deviation: float, _seed: Seed) -> Values:
    return np.asarray(gaussian_filter(x, (deviation, deviation, 0), mode="nearest"))


def _defocus_blur(x: Values, radius_and_smoothing: tuple[float, float], _seed: Seed) -> Values:
    """The mean over a disk whose edge is smoothed by a Gaussian of 3x3 pixels, of 5x5 where it is larger than 17x17."""
    radius, smoothing = radius_and_smoothing
    reach, width = (8, 1) if radius <= 8 else (int(radius), 2)
    across = np.arange(-reach, reach + 1)
    disk = (across[:, None] ** 2 + across**2 <= radius**2).astype(np.float64)
    tap = np.exp(-(np.arange(-width, width + 1) ** 2) / (2 * smoothing**2))
    kernel = convolve(disk / disk.sum(), np.outer(tap, tap) / tap.sum() ** 2, mode="mirror")
    inner = np.flatnonzero(kernel.sum(0) > 0)
    kernel = kernel[inner[0] : inner[-1] + 1, inner[0] : inner[-1] + 1]
    return np.asarray(convolve(x, kernel[:, :, None], mode="mirror"))


def _fog(x: Values, amount_and_decay: tuple[float, float], seed: Seed) -> Values:
    amount, decay = amount_and_decay
    side = 1 << (max(x.shape[:2]) - 1).bit_length()
    heights = _plasma(side, decay, seed)[: x.shape[0], : x.shape[1], None]
    brightest = x.max()
    return np.asarray((x + amount * heights) * brightest / (brightest + amount))


def _plasma(side: int, decay: float, seed: Seed) -> Values:
    """A height map [side, side] in 0..1, periodic, by the diamond-square algorithm; ``side`` is a power of 2.

    Every point is the mean of its four neighbours on the grid so far plus a random part, which is divided by ``decay``
    squared from one grid to the next, half as wide.
    """
    heights, part = np.zeros((side, side)), 2 * uniform(seed, side * side).reshape(side, side) - 1
    step = side
    while step >= 2:
        half = step // 2
        corners = heights[::step, ::step]
        below = corners + np.roll(corners, -1, 0)
        centres = (below + np.roll(below, -1, 1)) / 4 + part[half::step, half::step]
        top = (corners + np.roll(corners, -1, 1) + centres + np.roll(centres, 1, 0)) / 4 + part[::step, half::step]
        left = (below + centres + np.roll(centres, 1, 1)) / 4 + part[half::step, ::step]
        heights[half::step, half::step], heights[::step, half::step], heights[half::step, ::step] = centres, top, left
        part /= decay**2
        step = half
    heights -= heights.min()
    return np.asarray(heights / heights.max())


def _brightness(x: Values, amount: float, _seed: Seed) -> Values:
    """The value of HSV raised; hue and saturation stay, and black becomes grey."""
    value = x.max(2, keepdims=True)
    raised = np.minimum(value + amount, 1)
    return np.asarray(np.where(value > 0, x * (raised / np.where(value > 0, value, 1)), raised))


def _contrast(x: Values, share: float, _seed: Seed) -> Values:
    mean = x.mean((0, 1), keepdims=True)
    return np.asarray((x - mean) * share + mean)


def _pixelate(x: Values, share: float, _seed: Seed) -> Values:
    picture = _image(x)
    small = picture.resize(
        (max(int(picture.width * share), 1), max(int(picture.height * share), 1)), Image.Resampling.BOX
    )
    return _values(small.resize(picture.size, Image.Resampling.BOX))


def _jpeg(x: Values, quality: float, _seed: Seed) -> Values:
    file = io.BytesIO()
    _image(x).save(file, "JPEG", quality=int(quality))
    with Image.open(file) as decoded:
        return _values(decoded)


def _image(x: Values) -> Image.Image:
    return Image.fromarray(np.rint(x * 255).astype(np.uint8))


def _values(picture: Image.Image) -> Values:
    return np.asarray(picture) / 255.0


_CORRUPTIONS: Mapping[str, Callable[[Values, Any, Seed], Values]] = {
    "gaussian-noise": _gaussian_noise,
    "speckle-noise": _speckle_noise,
    "impulse-noise": _impulse_noise,
    "gaussian-blur": _gaussian_blur,
    "defocus-blur": _defocus_blur,
    "fog": _fog,
    "brightness": _brightness,
    "contrast": _contrast,
    "pixelate": _pixelate,
    "jpeg": _jpeg,
}
