"""Distances and manifold scores against scipy and literal loops."""

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from adm_core.errors import AdmError
from adm_core.seeds import derive
from tasks import datasets
from tasks.diffusion import distances, reference
from tasks.diffusion.extractor import as_tensors, open_classifier


def normal(count: int, dimensions: int, seed: int, spread: float = 1.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(dimensions, dimensions, generator=generator) * spread
    return torch.randn(count, dimensions, generator=generator) @ mixing + 0.3 * seed


@pytest.fixture(scope="module")
def digits():
    """Features and images of the splits, and the extractor."""
    extractor = open_classifier("digits", [])
    images = {split: as_tensors(datasets.load("digits", split, []))[0] for split in ("train", "test")}
    return {split: extractor.features(found) for split, found in images.items()}, images, extractor


@pytest.mark.parametrize("sizes", [(40, 30, 6), (400, 300, 64), (70, 65, 64)])
def test_frechet_distance_is_that_of_scipys_matrix_root(sizes):
    real, made = normal(sizes[0], sizes[2], 1), normal(sizes[1], sizes[2], 2)
    a, b = (np.asarray(features, dtype=np.float64) for features in (real, made))
    root = sqrtm(np.cov(a, rowvar=False) @ np.cov(b, rowvar=False)).real
    trace = np.trace(np.cov(a, rowvar=False) + np.cov(b, rowvar=False) - 2 * root)
    expected = np.square(a.mean(0) - b.mean(0)).sum() + trace
    assert distances.frechet_distance(real, made) == pytest.approx(expected, rel=1e-4)


def test_frechet_distance_has_its_closed_form_on_one_dimension():
    real, made = torch.tensor([[0.0], [2.0]]).repeat(3, 1), torch.tensor([[1.0], [7.0]]).repeat(3, 1)
    spread = (6 / 5) ** 0.5
    assert distances.frechet_distance(real, made) == pytest.approx(9 + (3 * spread - spread) ** 2, rel=1e-9)


@pytest.mark.parametrize("sizes", [(25, 20, 3), (9, 40, 5)])
def test_kernel_distance_is_the_mean_of_literal_estimates_on_the_same_subsets(sizes):
    real, made = normal(sizes[0], sizes[2], 1), normal(sizes[1], sizes[2], 2)
    size = min(sizes[:2]) // 2

    def kernel(x, y):
        return (float(x @ y) / sizes[2] + 1) ** 3

    estimates = []
    with torch.random.fork_rng():
        torch.manual_seed(derive(0, "kernel distance"))
        for _ in range(100):
            x, y = (part.double()[torch.randperm(len(part))[:size]] for part in (real, made))
            within = [kernel(s[i], s[j]) for s in (x, y) for i in range(size) for j in range(size) if i != j]
            across = [kernel(p, q) for p in x for q in y]
            estimates.append(sum(within) / (size * (size - 1)) - 2 * sum(across) / size**2)
    assert distances.kernel_distance(real, made) == pytest.approx(1000 * sum(estimates) / 100, rel=1e-4)


def test_the_kernel_distance_leaves_the_callers_draws_alone(monkeypatch):
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    real, made = normal(30, 4, 1), normal(30, 4, 2)
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda seed: pytest.fail("GPUs were reseeded"))
    assert distances.kernel_distance(real, made) == distances.kernel_distance(real, made)
    assert torch.equal(torch.rand(2), expected)


def literal_manifold_scores(real: np.ndarray, made: np.ndarray, k: int) -> dict[str, float]:
    def radius(points, i):
        return sorted(np.linalg.norm(points[i] - points[j]) for j in range(len(points)) if j != i)[k - 1]

    real_radius, made_radius = ([radius(points, i) for i in range(len(points))] for points in (real, made))
    inside = [[np.linalg.norm(m - r) <= radius for r, radius in zip(real, real_radius, strict=True)] for m in made]
    found = [any(np.linalg.norm(r - m) <= radius for m, radius in zip(made, made_radius, strict=True)) for r in real]
    return {
        "precision": 100 * np.mean([any(row) for row in inside]),
        "recall": 100 * np.mean(found),
        "density": 100 * np.sum(inside) / (k * len(made)),
        "coverage": 100 * np.mean([any(row[i] for row in inside) for i in range(len(real))]),
    }


@pytest.mark.parametrize("room", [2**24, 150])
def test_manifold_scores_are_those_of_literal_loops(monkeypatch, room):
    monkeypatch.setattr(distances, "ROOM", room)
    real, made = normal(60, 3, 1), normal(60, 3, 1)[:, [1, 0, 2]] * 0.8
    found = distances.manifold_scores(real, made)
    expected = literal_manifold_scores(real.double().numpy(), made.double().numpy(), 5)
    assert found == pytest.approx(expected, abs=1e-9)
    assert all(5 < found[name] < 95 for name in ("precision", "recall", "coverage"))


def test_manifolds_are_cut_to_one_size(monkeypatch):
    real, made = normal(90, 3, 1), normal(40, 3, 1)
    order = torch.randperm(90, generator=torch.Generator().manual_seed(derive(0, "manifold")))[:40]
    expected = literal_manifold_scores(real[order].double().numpy(), made.double().numpy(), 5)
    assert distances.manifold_scores(real, made) == pytest.approx(expected, abs=1e-9)
    monkeypatch.setattr(distances, "MANIFOLD", 20)
    assert distances.manifold_scores(real, made)["recall"] % 5 == pytest.approx(0, abs=1e-9)


def test_nearest_is_a_literal_minimum_and_copies_stand_out():
    generator = torch.Generator().manual_seed(0)
    train, held_out, fresh = (torch.rand(count, 1, 4, 4, generator=generator) for count in (300, 400, 400))
    near = distances.nearest(held_out, train)
    expected = [min(float((image - other).double().norm()) for other in train) for image in held_out[:20]]
    assert near[:20].tolist() == pytest.approx(expected, rel=1e-5)
    mixed = torch.cat([train[:100] + 1e-3, fresh[:300]])
    assert distances.nearest_train(distances.nearest(mixed, train), near) == pytest.approx(25, abs=2)
    assert distances.nearest_train(distances.nearest(fresh, train), near) < 4


@pytest.mark.parametrize(
    ("metric", "real", "made", "says"),
    [
        (distances.frechet_distance, 20, 8, "Fréchet distance of 8-dimensional .* needs 9 generated .* not 8"),
        (distances.frechet_distance, 8, 20, "needs 9 real images or more, not 8"),
        (distances.kernel_distance, 20, 3, "kernel distance .* needs 4 generated images"),
        (distances.manifold_scores, 5, 20, "precision and recall .* needs 6 real images"),
    ],
)
def test_too_few_images_are_refused(metric, real, made, says):
    with pytest.raises(AdmError, match=says):
        metric(normal(real, 8, 1), normal(made, 8, 2))


def test_halves_of_the_real_digits_are_far_nearer_than_noise(digits):
    features, _, extractor = digits
    order = torch.randperm(1097, generator=torch.Generator().manual_seed(0))
    halves = features["train"][order[:548]], features["train"][order[548:]]
    noise = torch.randn(548, 1, 8, 8, generator=torch.Generator().manual_seed(1)).clamp(-1, 1)
    far = extractor.features(noise)
    assert distances.frechet_distance(*halves) < 0.02 * distances.frechet_distance(halves[0], far)
    assert abs(distances.kernel_distance(*halves)) < 0.02 * distances.kernel_distance(halves[0], far)
    near, distant = distances.manifold_scores(*halves), distances.manifold_scores(halves[0], far)
    assert min(near.values()) > 80 and max(distant.values()) < 20


def test_a_reference_is_computed_once(digits, tmp_path, monkeypatch, capsys):
    features, images, extractor = digits
    held_out = images["test"]
    alone = reference.reference(images["train"], held_out, extractor, None)
    first = reference.reference(images["train"], held_out, extractor, tmp_path / "artefacts")
    assert torch.equal(first.features, features["train"]) and torch.equal(first.features, alone.features)
    assert [file.name for file in (tmp_path / "artefacts").iterdir()] == [f"{first.digest}.safetensors"]
    other = reference.reference(images["train"], held_out[:99], extractor, None)
    file = tmp_path / "artefacts" / f"{first.digest}.safetensors"
    whole = file.read_bytes()
    file.write_bytes(b"cut off")
    reference.reference(images["train"], held_out, extractor, tmp_path / "artefacts")
    assert f"artefact {file} is damaged" in capsys.readouterr().err and file.read_bytes() == whole
    monkeypatch.setattr(type(extractor), "features", None)
    again = reference.reference(images["train"], held_out, extractor, tmp_path / "artefacts")
    assert torch.equal(again.features, first.features) and torch.equal(again.nearest, first.nearest)
    assert alone.digest == first.digest == again.digest != other.digest
