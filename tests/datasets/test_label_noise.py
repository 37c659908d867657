"""Wrong labels: how many, which, the same every time, and what decides them."""

import numpy as np
import pytest

from adm_core.condition import LabelNoise
from adm_core.errors import AdmError
from tasks.classification.task import _BENCHMARKS, _taken_for
from tasks.datasets.class_folders import ImageFiles
from tasks.datasets.images import ImageSet, uniform
from tasks.datasets.label_noise import noisy

KINDS = {"symmetric": "4165a4f3", "asymmetric": "50ab1256", "instance": "ae074ba2"}
"""Each kind, and how the digest begins of what it makes of 400 labels."""
NAMES = ("a", "b", "c", "d", "e")


def pictures(count=400, seed=0, classes=NAMES):
    """Random pictures of 6x6 pixels, as many of every class but for the remainder."""
    images = (uniform((seed,), count * 108) * 256).astype(np.uint8).reshape(count, 3, 6, 6)
    return ImageSet(images, np.arange(count, dtype=np.int64) % len(classes), tuple(classes))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("count", "rate"), [(400, 0.2), (403, 0.437), (50, 0.03), (50, 0.99)])
def test_exactly_as_many_labels_are_wrong_as_the_rate_says(kind, count, rate):
    clean = pictures(count)
    found = noisy(clean, LabelNoise(kind, rate))
    wrong = np.flatnonzero(found.train.labels != clean.labels)
    assert len(wrong) == round(rate * count) and wrong.tolist() == found.flipped.tolist()
    assert found.train.images is clean.images and found.train.classes == clean.classes
    assert clean.labels.tolist() == pictures(count).labels.tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_is_one_draw_for_ever(kind):
    one, again, other = (noisy(pictures(), LabelNoise(kind, 0.3, seed)) for seed in (0, 0, 1))
    assert one.digest == again.digest != other.digest and one.digest[:8] == KINDS[kind]
    assert one.flipped.tolist() != other.flipped.tolist()


def test_kinds_and_the_carving_of_a_validation_split_draw_from_streams_of_their_own():
    clean = pictures()
    _, carved = clean.carve(0.3)
    held_out = {tuple(picture.flat) for picture in carved.images}
    drawn = [{tuple(clean.images[i].flat) for i in noisy(clean, LabelNoise(kind, 0.3)).flipped} for kind in KINDS]
    for chosen in drawn:
        assert 15 < len(chosen & held_out) < 60  # a third of 120 by chance


def test_symmetric_noise_takes_from_every_class_alike_and_gives_to_all_others():
    clean = pictures(4000)
    found = noisy(clean, LabelNoise("symmetric", 0.5))
    moved = np.zeros((5, 5), dtype=int)
    np.add.at(moved, (clean.labels[found.flipped], found.train.labels[found.flipped]), 1)
    assert moved.sum(1).tolist() == [400] * 5 and np.diag(moved).tolist() == [0] * 5
    assert moved[~np.eye(5, dtype=bool)].min() > 70  # 100 each by chance, standard deviation 9


@pytest.mark.parametrize(
    ("taken_for", "target"),
    [
        (None, {"a": "b", "b": "c", "c": "d", "d": "e", "e": "a"}),
        ({"a": "c", "c": "a", "e": "b"}, {"a": "c", "c": "a", "e": "b"}),
    ],
)
def test_asymmetric_noise_gives_the_class_that_one_is_taken_for(taken_for, target):
    clean = pictures(500)
    found = noisy(clean, LabelNoise("asymmetric", 0.4), taken_for)
    pairs = {(NAMES[a], NAMES[b]) for a, b in zip(clean.labels[found.flipped], found.train.labels[found.flipped])}  # noqa: B905
    assert pairs == set(target.items())
    assert np.bincount(clean.labels[found.flipped], minlength=5).tolist() == [40 * (name in target) for name in NAMES]


def test_the_usual_confusions_of_cifar_10_and_the_superclasses_of_cifar_100():
    ten, hundred = (_taken_for(_BENCHMARKS[name]) for name in ("cifar10@1", "cifar100@1"))
    assert ten == {"truck": "automobile", "bird": "airplane", "deer": "horse", "cat": "dog", "dog": "cat"}
    assert len(hundred) == 100 and set(hundred) == set(hundred.values())
    assert hundred["beaver"] == "dolphin" and hundred["whale"] == "beaver" and hundred["rose"] == "sunflower"
    assert _taken_for(_BENCHMARKS["digit-hues@1"]) is None
    circle, name = [], "beaver"
    while name not in circle:
        circle.append(name)
        name = hundred[name]
    assert circle == ["beaver", "dolphin", "otter", "seal", "whale"]


def test_under_instance_noise_the_picture_decides_the_wrong_label():
    two, labels = pictures(2, seed=5).images, np.zeros(400, dtype=np.int64)
    found = noisy(ImageSet(two[np.arange(400) % 2], labels, NAMES), LabelNoise("instance", 0.5, 3))
    which, wrong = found.flipped % 2, found.train.labels[found.flipped]
    shares = [np.bincount(wrong[which == picture], minlength=5) / (which == picture).sum() for picture in (0, 1)]
    assert abs(shares[0] - shares[1]).sum() > 1  # 2: no wrong label in common
    symmetric = noisy(ImageSet(two[np.arange(400) % 2], labels, NAMES), LabelNoise("symmetric", 0.5, 3))
    which, wrong = symmetric.flipped % 2, symmetric.train.labels[symmetric.flipped]
    shares = [np.bincount(wrong[which == picture], minlength=5) / (which == picture).sum() for picture in (0, 1)]
    assert abs(shares[0] - shares[1]).sum() < 0.5


def test_what_cannot_be_made_wrong_is_told():
    files = ImageFiles(("x.png", "y.png"), np.array([0, 1]), ("a", "b"))
    with pytest.raises(AdmError, match="instance noise reads the pictures, and these lie in files"):
        noisy(files, LabelNoise("instance", 0.5))
    assert noisy(files, LabelNoise("symmetric", 0.5)).train.files == files.files
    with pytest.raises(AdmError, match=r"a rate of 0\.01 of 40 labels is none; raise it"):
        noisy(pictures(40), LabelNoise("symmetric", 0.01))
    with pytest.raises(AdmError, match="needs two classes or more, not 1"):
        noisy(pictures(40, classes=("a",)), LabelNoise("symmetric", 0.5))
