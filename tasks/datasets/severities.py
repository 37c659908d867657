"""How strong each corruption is at each severity: names and numbers alone. Loads no torch.

The corruptions and their numbers are those of Hendrycks and Dietterich (arXiv:1903.12261) as their code has them
(github.com/hendrycks/robustness): ``make_cifar_c.py`` for small pictures, ``make_imagenet_c.py`` for larger ones. Left
out are those that need photographs or ImageMagick (snow, frost, spatter, motion blur), those that move pixels and so
would move labels (elastic, glass and zoom blur), and shot noise and saturation.
"""

from __future__ import annotations

from collections.abc import Mapping

SMALL = 64
"""Longest shorter side in pixels of pictures that take the numbers of CIFAR's."""

Number = float | tuple[float, float]

SEVERITIES: Mapping[str, tuple[tuple[Number, ...], tuple[Number, ...]]] = {
    "gaussian-noise": ((0.04, 0.06, 0.08, 0.09, 0.10), (0.08, 0.12, 0.18, 0.26, 0.38)),
    "speckle-noise": ((0.06, 0.1, 0.12, 0.16, 0.2), (0.15, 0.2, 0.35, 0.45, 0.6)),
    "impulse-noise": ((0.01, 0.02, 0.03, 0.05, 0.07), (0.03, 0.06, 0.09, 0.17, 0.27)),
    "gaussian-blur": ((0.4, 0.6, 0.7, 0.8, 1.0), (1.0, 2.0, 3.0, 4.0, 6.0)),
    "defocus-blur": (
        ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1.0, 0.2), (1.5, 0.1)),
        ((3.0, 0.1), (4.0, 0.5), (6.0, 0.5), (8.0, 0.5), (10.0, 0.5)),
    ),
    "fog": (
        ((0.2, 3.0), (0.5, 3.0), (0.75, 2.5), (1.0, 2.0), (1.5, 1.75)),
        ((1.5, 2.0), (2.0, 2.0), (2.5, 1.7), (2.5, 1.5), (3.0, 1.4)),
    ),
    "brightness": ((0.05, 0.1, 0.15, 0.2, 0.3), (0.1, 0.2, 0.3, 0.4, 0.5)),
    "contrast": ((0.75, 0.5, 0.4, 0.3, 0.15), (0.4, 0.3, 0.2, 0.1, 0.05)),
    "pixelate": ((0.95, 0.9, 0.85, 0.75, 0.65), (0.6, 0.5, 0.4, 0.3, 0.25)),
    "jpeg": ((80, 65, 58, 50, 40), (25, 18, 15, 10, 7)),
}
"""Corruption to its numbers at severities 1 to 5: of small pictures, and of larger ones."""
