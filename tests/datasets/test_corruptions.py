"""Corruptions against what they are defined as, the same in every process, and the sets whose pictures they change."""

import colorsys
import hashlib
import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adm_core.condition import Shift
from tasks.datasets.class_folders import list_images
from tasks.datasets.corruptions import corrupt, corrupted, normal
from tasks.datasets.images import ImageSet, uniform
from tasks.datasets.scenes import SceneFiles, Scenes
from tasks.datasets.severities import SEVERITIES
from tasks.datasets.shifts import shifted

ALL = Shift(tuple(SEVERITIES), 3)


def picture(height=32, width=32, seed=0):
    """Smooth colours under fine grain."""
    across, down = np.meshgrid(np.linspace(0, 3, width), np.linspace(0, 2, height))
    waves = np.stack([np.sin(across + down), np.cos(2 * across), np.sin(3 * down)], 2)
    grain = uniform((seed,), height * width * 3).reshape(height, width, 3)
    return np.rint(110 + 60 * waves + 40 * grain).astype(np.uint8)


def flat(level, side=64):
    return np.full((side, side, 3), level, dtype=np.uint8)


@pytest.mark.parametrize("name", SEVERITIES)
@pytest.mark.parametrize("side", [32, 96])
def test_a_corruption_changes_more_the_more_severe_it_is(name, side):
    clean = picture(side, side + 16)
    found = [corrupt(clean, name, severity, (0,)) for severity in range(1, 6)]
    assert all(made.shape == clean.shape and made.dtype == np.uint8 for made in found)
    distances = [float(np.abs(made / 255 - clean / 255).mean()) for made in found]
    assert distances[0] > 0 or (name, side) == ("defocus-blur", 32)
    # fog hides more of a picture, which need not bring it further from what it was
    assert name == "fog" or (distances == sorted(distances) and distances[4] > distances[0])


@pytest.mark.parametrize(("severity", "deviation"), [(1, 0.04), (5, 0.10)])
def test_noise_has_the_deviation_of_its_severity(severity, deviation):
    made = corrupt(flat(128), "gaussian-noise", severity, (1,)) / 255 - 128 / 255
    assert made.std() == pytest.approx(deviation, rel=0.03) and abs(made.mean()) < 0.002
    speckle = [corrupt(flat(level), "speckle-noise", 1, (1,)) / 255 for level in (50, 150)]
    assert speckle[1].std() == pytest.approx(3 * speckle[0].std(), rel=0.05)
    impulse = corrupt(flat(128, 100), "impulse-noise", 3, (2,))
    values, counts = np.unique(impulse, return_counts=True)
    assert values.tolist() == [0, 128, 255] and (counts / counts.sum())[[0, 2]] == pytest.approx(
        [0.045, 0.045], rel=0.1
    )


def test_draws_are_normal_and_never_infinite():
    drawn = normal((3,), 20_000)
    assert np.isfinite(drawn).all() and abs(drawn.mean()) < 0.03 and drawn.std() == pytest.approx(1, abs=0.02)
    assert ((drawn > -1) & (drawn < 1)).mean() == pytest.approx(0.683, abs=0.015)


def test_blurs_are_means_over_a_gaussian_and_over_a_disk():
    point = flat(0, 97)
    point[48, 48] = 255
    blurred = corrupt(np.tile(point, (1, 1, 1)), "gaussian-blur", 2, (0,)).astype(float)[..., 0]
    across = np.exp(-(np.arange(-8, 9) ** 2) / 8)
    kernel = np.outer(across, across) / across.sum() ** 2
    np.testing.assert_allclose(blurred[40:57, 40:57], 255 * kernel, atol=0.51)
    disk = corrupt(point, "defocus-blur", 1, (0,)).astype(float)[..., 0]  # radius 3: 29 pixels, edge as good as sharp
    inside = np.add.outer(np.arange(-48, 49) ** 2, np.arange(-48, 49) ** 2) <= 9
    np.testing.assert_allclose(disk, np.where(inside, 255 / inside.sum(), 0), atol=0.51)


def test_brightness_raises_the_value_of_hsv_alone():
    clean = picture(8, 8)
    clean[0, 0] = 0
    made = corrupt(clean, "brightness", 4, (0,))
    for old, new in zip(clean.reshape(-1, 3), made.reshape(-1, 3), strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*(old / 255))
        expected = np.array(colorsys.hsv_to_rgb(hue, saturation, min(value + 0.2, 1))) * 255
        np.testing.assert_allclose(new, expected, atol=0.51)


def test_contrast_draws_values_towards_their_channels_mean():
    clean = picture()
    expected = (clean - clean.mean((0, 1))) * 0.4 + clean.mean((0, 1))
    np.testing.assert_allclose(corrupt(clean, "contrast", 3, (0,)), expected, atol=0.51)


def test_fog_brightens_towards_white_and_lies_in_patches():
    dark = corrupt(flat(40, 96), "fog", 3, (4,)) / 255
    light = 40 / 255
    ends = light * light / (light + 2.5), (light + 2.5) * light / (light + 2.5)
    assert dark.min() == pytest.approx(ends[0], abs=0.02) and dark.max() <= ends[1] + 0.01
    hidden = [float(np.corrcoef(corrupt(picture(), "fog", s, (4,)).flat, picture().flat)[0, 1]) for s in range(1, 6)]
    assert hidden == sorted(hidden, reverse=True)
    near = np.abs(np.diff(dark[..., 0], axis=0)).mean()
    assert near < 0.2 * dark[..., 0].std()


def test_pixelate_and_jpeg_are_what_pillow_makes():
    clean = picture(100, 80)
    small = Image.fromarray(clean).resize((40, 50), Image.Resampling.BOX)
    assert np.array_equal(corrupt(clean, "pixelate", 2, (0,)), np.repeat(np.repeat(np.asarray(small), 2, 0), 2, 1))
    file = io.BytesIO()
    Image.fromarray(clean).save(file, "JPEG", quality=15)
    assert np.array_equal(corrupt(clean, "jpeg", 3, (0,)), np.asarray(Image.open(file)))


DIGEST = """
import hashlib, sys
sys.path.insert(0, sys.argv[1])
from tests.datasets.test_corruptions import ALL, picture
from tasks.datasets.corruptions import corrupted
found = hashlib.sha256()
for seed in range(24):
    found.update(corrupted(picture(seed=seed), ALL).tobytes())
print(found.hexdigest())
"""


def test_a_picture_looks_the_same_in_every_process():
    root = Path(__file__).resolve().parents[2]
    environment = os.environ | {"PYTHONHASHSEED": "7"}
    done = subprocess.run([sys.executable, "-c", DIGEST, str(root)], capture_output=True, text=True, env=environment)
    here = hashlib.sha256()
    for seed in range(24):
        here.update(corrupted(picture(seed=seed), ALL).tobytes())
    assert done.stdout.strip() == here.hexdigest(), done.stderr


def test_which_corruption_a_picture_has_follows_from_its_pixels_and_the_seed():
    two = Shift(("contrast", "jpeg"), 5)
    made = [corrupted(picture(seed=seed), two) for seed in range(40)]
    jpeg = [np.array_equal(found, corrupt(picture(seed=seed), "jpeg", 5, (0,))) for seed, found in enumerate(made)]
    contrast = [np.array_equal(found, corrupt(picture(seed=s), "contrast", 5, (0,))) for s, found in enumerate(made)]
    assert all(a != b for a, b in zip(jpeg, contrast, strict=True)) and 8 < sum(jpeg) < 32
    noise = [Shift(("gaussian-noise",), 3, seed) for seed in (0, 1)]
    assert not np.array_equal(corrupted(picture(), noise[0]), corrupted(picture(), noise[1]))


def image_set(count=12):
    images = np.stack([picture(seed=seed).transpose(2, 0, 1) for seed in range(count)])
    return ImageSet(images, np.arange(count, dtype=np.int64) % 3, ("a", "b", "c"))


def test_a_set_in_memory_keeps_labels_and_looks_the_same_in_any_part_of_it(tmp_path):
    clean = image_set()
    found, index = shifted(clean, ALL), np.array([7, 2, 9])
    assert found.labels is clean.labels and found.images.shape == clean.images.shape
    assert np.array_equal(shifted(clean.take(index), ALL).images, found.images[index])
    for _ in range(2):  # made, then as it was kept
        kept = shifted(clean, ALL, tmp_path)
        assert kept.digest() == found.digest() != clean.digest()
    assert len(list(tmp_path.rglob("*.safetensors"))) == 1
    assert shifted(clean, Shift(ALL.corruptions, 4), tmp_path).digest() != found.digest()


def test_sets_in_files_are_changed_when_they_are_read(tmp_path):
    for number in range(4):
        for folder, pixels in ((f"c{number % 2}", picture(48, 40, number)), ("labels", np.full((48, 40), number % 2))):
            (tmp_path / "all" / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "all" / folder / f"{number}.png")
    labels = sorted((tmp_path / "all" / "labels").rename(tmp_path / "labels").iterdir())
    files = list_images(tmp_path / "all")
    found, last = shifted(files, ALL), np.array([3])
    for part in (found.take(last), found.take(last).take(np.array([0]))):
        expected = corrupted(np.asarray(files.read(3)), ALL)
        assert np.array_equal(np.asarray(part.read(0)), expected) and part.labels.tolist() == [1]
    assert found.digest() != files.digest() != shifted(files, Shift(("fog",), 1)).digest() != found.digest()

    pairs = tuple(zip(map(Path, files.files), labels, strict=True))
    scenes = SceneFiles(pairs, {0: 0, 1: 1}, ("x", "y"), ((0, 0, 0), (9, 9, 9)))
    lazy, whole = shifted(scenes, ALL), shifted(scenes.in_memory(), ALL)
    assert isinstance(whole, Scenes) and lazy.digest() != scenes.digest()
    for i in range(4):
        (image, marked), (same, also) = lazy.read(i), whole.read(i)
        assert np.array_equal(image, same) and np.array_equal(marked, also)
        assert np.array_equal(marked, scenes.read(i)[1]) and not np.array_equal(image, scenes.read(i)[0])
    assert np.array_equal(lazy.take(last).read(0)[0], lazy.read(3)[0])
