"""How far generated images are from real ones: distances and manifold scores of features, and a check for copies.

Fréchet and kernel distance are torchmetrics'. Everything is computed in float64 and draws nothing that changes from
call to call.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from adm_core.errors import AdmError
from adm_core.seeds import derive

SUBSETS, SUBSET_SIZE = 100, 1000
"""Of the kernel distance, as KID is usually taken (Bińkowski et al., arXiv:1801.01401)."""
NEAREST = 5
"""k of the manifolds, as Naeem et al. have it."""
MANIFOLD = 10_000
"""Most points of a manifold."""
ROOM = 2**24
"""Most pairwise distances held at a time."""


def fewest(dimensions: int) -> int:
    """How many images each side needs: with fewer than D + 1, the covariance of D features has no full rank."""
    return max(dimensions + 1, NEAREST + 1, 4)


def frechet_distance(real: Tensor, made: Tensor) -> float:
    """``|μ_r - μ_m|² + tr(Σ_r + Σ_m - 2 (Σ_r Σ_m)^½)`` (Heusel et al., arXiv:1706.08500); smaller is better.

    It falls with the number of images; only distances of equally many compare.

    Args:
        real: features [N, D].
        made: features [M, D].

    Raises:
        AdmError: either has no more rows than columns.
    """
    _require("the Fréchet distance", real, made, fewest(real.shape[1]))
    metric = FrechetInceptionDistance(feature=_Given(real.shape[1])).to(real.device)
    metric.update(real.double(), real=True)
    metric.update(made.double(), real=False)
    return float(metric.compute())


def kernel_distance(real: Tensor, made: Tensor) -> float:
    """1000 times the squared maximum mean discrepancy under ``(x·y / D + 1)³`` (arXiv:1801.01401); smaller is better.

    The mean of the unbiased estimate over 100 pairs of random subsets, of 1,000 features each or of half the smaller
    set where that is less. It is below zero where sets are more alike than independent draws, such as two that have
    every class equally often.

    Args:
        real: features [N, D].
        made: features [M, D].

    Raises:
        AdmError: either has fewer than 4 rows.
    """
    _require("the kernel distance", real, made, 4)
    size = min(SUBSET_SIZE, len(real) // 2, len(made) // 2)
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.filterwarnings("ignore", "Metric `Kernel Inception Distance` will save all")
        torch.default_generator.manual_seed(derive(0, "kernel distance"))  # torch.manual_seed reseeds GPUs as well
        metric = KernelInceptionDistance(feature=_Given(real.shape[1]), subsets=SUBSETS, subset_size=size)
        metric.update(real.double(), real=True)
        metric.update(made.double(), real=False)
        return 1000 * float(metric.compute()[0])


def manifold_scores(real: Tensor, made: Tensor) -> dict[str, float]:
    """``precision``, ``recall``, ``density`` and ``coverage`` in percent; larger is better.

    The manifold of a set is the union of balls around its points that reach to their 5th nearest neighbour in it.
    Precision: share of made points in the real manifold; recall: of real points in the made one (Kynkäänniemi et al.,
    arXiv:1904.06991). Density: real balls that hold a made point, per 5, above 100 where made points crowd where real
    ones do; coverage: share of real balls that hold one (Naeem et al., arXiv:2002.09797). Both sets are cut to one
    size, 10,000 at most, by a fixed draw.

    Args:
        real: features [N, D].
        made: features [M, D].

    Raises:
        AdmError: either has fewer than 6 rows.
    """
    _require("precision and recall", real, made, NEAREST + 1)
    size = min(len(real), len(made), MANIFOLD)
    real, made = _drawn(real, size), _drawn(made, size)
    real_radius, made_radius = _radii(real), _radii(made)
    holders = made.new_zeros(size)
    recalled, covered = (torch.zeros(size, dtype=torch.bool, device=real.device) for _ in range(2))
    for rows, distance in _pairwise(real, made):
        in_real = distance <= real_radius[rows, None]
        holders += in_real.sum(0)
        covered[rows] = in_real.any(1)
        recalled[rows] = (distance <= made_radius).any(1)
    found = {
        "precision": (holders > 0).double(),
        "recall": recalled.double(),
        "density": holders / NEAREST,
        "coverage": covered.double(),
    }
    return {name: 100 * float(values.mean()) for name, values in found.items()}


def nearest(images: Tensor, among: Tensor) -> Tensor:
    """Euclidean distance of each image to the nearest of others, by pixels: float64 [N].

    Args:
        images: [N, C, H, W].
        among: [M, C, H, W], on the same device.
    """
    pairs = _pairwise(images.flatten(1).double(), among.flatten(1).double())
    return torch.cat([distance.amin(1) for _, distance in pairs])


def nearest_train(made: Tensor, held_out: Tensor) -> float:
    """Share in percent of made images nearer to a training image than all but the nearest 1 % of held-out images.

    1 is what fresh images would have; far more hints at copies of training images.

    Args:
        made: distances [N] from :func:`nearest` among the training images.
        held_out: such distances [M] of real images that were not trained on.
    """
    return 100 * float((made < held_out.quantile(0.01)).double().mean())


class _Given(nn.Module):
    """Stands for torchmetrics' feature network where the features are there already."""

    def __init__(self, dimensions: int) -> None:
        super().__init__()
        self.num_features = dimensions

    def forward(self, features: Tensor) -> Tensor:
        return features


def _require(metric: str, real: Tensor, made: Tensor, count: int) -> None:
    for what, given in (("real", real), ("generated", made)):
        if len(given) < count:
            space = f"{given.shape[1]}-dimensional features"
            raise AdmError(f"{metric} of {space} needs {count} {what} images or more, not {len(given)}")


def _drawn(features: Tensor, size: int) -> Tensor:
    generator = torch.Generator().manual_seed(derive(0, "manifold"))
    return features[torch.randperm(len(features), generator=generator)[:size].to(features.device)].double()


def _radii(points: Tensor) -> Tensor:
    """Distance of each point [N, D] to its 5th nearest neighbour, itself left out: [N]."""
    radii = []
    for rows, distance in _pairwise(points, points):
        own = torch.arange(rows.start, rows.start + len(distance), device=points.device)
        distance.scatter_(1, own[:, None], torch.inf)
        radii.append(distance.kthvalue(NEAREST, dim=1).values)
    return torch.cat(radii)


def _pairwise(first: Tensor, second: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Distances [rows, M] between points [N, D] and [M, D], some rows at a time."""
    count = max(1, ROOM // len(second))
    for start in range(0, len(first), count):
        rows = slice(start, start + count)
        yield rows, torch.cdist(first[rows], second)
