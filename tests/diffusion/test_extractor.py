"""Feature extractors: the shipped one, those that are made, and what is said of missing and wrong files."""

import hashlib

import numpy as np
import pytest
import torch

from adm_core.errors import AdmError
from tasks import datasets
from tasks.datasets.images import ImageSet
from tasks.diffusion import classifier, extractor
from tasks.diffusion.classifier import Architecture, Classifier, Training
from tasks.diffusion.extractor import as_tensors, open_classifier, open_extractor

DIGEST = "8007c50cb9e223c68c430c3e1c97803a1faa5b66db910398ce22f801a49a75c1"


@pytest.fixture(scope="module")
def shipped():
    return open_classifier("digits", [])


def test_the_shipped_weights_never_change(shipped):
    path = extractor.SHIPPED / "digits.safetensors"
    assert shipped.digest == hashlib.sha256(path.read_bytes()).hexdigest() == DIGEST
    assert path.stat().st_size < 300_000
    assert (shipped.name, shipped.dimensions, shipped.distances) == ("classifier", 64, ("frechet", "kernel"))


def test_the_shipped_classifier_names_held_out_digits(shipped):
    for split, least in (("validation", 99.5), ("test", 99.0)):
        images, labels = as_tensors(datasets.load("digits", split, []))
        assert images.min() == -1 and images.max() == 1
        named = shipped.classify(images)[1].argmax(1)
        assert 100 * float((named == labels).double().mean()) >= least


def test_batches_change_no_features(shipped):
    images = torch.rand(50, 1, 8, 8) * 2 - 1
    features = shipped.features(images)
    assert features.shape == (50, 64) and features.dtype == torch.float32
    assert torch.allclose(features, shipped.features(images, batch_size=7), atol=1e-5)
    assert torch.allclose(features, shipped.classify(images)[0], atol=1e-5)


def test_gradients_reach_images_and_never_weights(shipped):
    images = (torch.rand(3, 1, 8, 8) * 2 - 1).requires_grad_()
    features, logits = shipped.classify(images)
    assert (features.shape, logits.shape) == ((3, 64), (3, 10))
    (features.square().mean() + logits.logsumexp(1).mean()).backward()
    assert images.grad is not None and images.grad.abs().amax((1, 2, 3)).min() > 0
    assert not any(weight.requires_grad for weight in shipped._model.parameters())


def test_training_is_the_same_every_time_and_its_file_says_what_it_is(tmp_path):
    images, labels = as_tensors(datasets.load("digits", "validation", []))
    recipe = Training(epochs=2, batch_size=50, learning_rate=5e-3, shift=1, flip=True)
    made = []
    for name in "ab":
        torch.manual_seed(len(made))
        model = classifier.train(Architecture(1, 10, (8, 16), 1), recipe, images, labels)
        classifier.save(model, tmp_path / name)
        made.append((tmp_path / name).read_bytes())
    assert made[0] == made[1]
    again = classifier.load(tmp_path / "a")
    assert again.architecture == Architecture(1, 10, (8, 16), 1) and not again.training
    assert torch.equal(again(images)[1], model(images)[1])


def test_augmented_images_are_windows_of_the_padded_ones():
    recipe = Training(epochs=1, batch_size=1, learning_rate=0.1, shift=2, flip=True)
    images = torch.rand(40, 3, 6, 6)
    found = classifier._augmented(images, recipe, torch.Generator().manual_seed(0))
    padded = torch.nn.functional.pad(images, (2, 2, 2, 2), value=-1.0)
    seen = set()
    for image, whole in zip(found, padded, strict=True):
        windows = {(y, x, f): whole[:, y : y + 6, x : x + 6].flip(2) if f else whole[:, y : y + 6, x : x + 6]
                   for y in range(5) for x in range(5) for f in (False, True)}  # fmt: skip
        match = [key for key, window in windows.items() if torch.equal(window, image)]
        assert len(match) == 1
        seen.add(match[0])
    assert [set(offsets) for offsets in zip(*seen, strict=True)] == [set(range(5)), set(range(5)), {True, False}]


def test_a_resnet_for_larger_images_halves_its_stages():
    model = Classifier(Architecture(3, 7, (4, 8, 12), 2)).eval()
    shapes = []
    for block in model.body[2:]:
        block.register_forward_hook(lambda _, __, out: shapes.append(tuple(out.shape[1:])))
    features, logits = model(torch.zeros(2, 3, 32, 32))
    assert shapes == [(4, 32, 32)] * 2 + [(8, 16, 16)] * 2 + [(12, 8, 8)] * 2
    assert features.shape == (2, 12) and logits.shape == (2, 7)


def test_a_missing_classifier_is_told_with_the_command_that_makes_it_and_then_found(tmp_path, monkeypatch, capsys):
    command = f"python -m tasks.diffusion.extractor cifar10 --data-root {tmp_path}"
    with pytest.raises(AdmError, match="classifier of cifar10 was not found") as told:
        open_extractor("classifier", "cifar10", [tmp_path, tmp_path / "b"])
    assert command in str(told.value) and str(tmp_path / "b/extractors/cifar10.safetensors") in str(told.value)
    rng = np.random.default_rng(0)
    few = ImageSet(rng.integers(0, 256, (20, 3, 32, 32), dtype=np.uint8), np.arange(20) % 10, tuple("0123456789"))
    monkeypatch.setattr(datasets, "load", lambda name, split, roots: few)
    small = ((8, 16), 1, Training(epochs=1, batch_size=10, learning_rate=1e-3, shift=4, flip=True))
    monkeypatch.setitem(extractor.RECIPES, "cifar10", small)
    extractor.main(command.split()[3:])
    assert "test accuracy" in capsys.readouterr().out
    found = open_extractor("classifier", "cifar10", [tmp_path / "b", tmp_path])
    assert found.features(as_tensors(few)[0]).shape == (20, 16)


def test_bad_names_and_files_are_told(tmp_path):
    with pytest.raises(AdmError, match="unknown feature extractor 'inceptoin'; did you mean inception"):
        open_extractor("inceptoin", "digits", [])
    with pytest.raises(AdmError, match="unknown classifier of data set 'digit'; did you mean digits"):
        open_extractor("classifier", "digit", [])
    with pytest.raises(SystemExit, match="cifar100 needs --data-root"):
        extractor.main(["cifar100"])
    (tmp_path / "extractors").mkdir()
    (tmp_path / "extractors/cifar100.safetensors").write_bytes(b"nothing")
    with pytest.raises(AdmError, match="is damaged"):
        open_extractor("classifier", "cifar100", [tmp_path])


def test_missing_and_wrong_inception_weights_are_told(tmp_path):
    with pytest.raises(AdmError, match="the file of Inception weights was not found") as told:
        open_extractor("inception", "digits", [tmp_path])
    assert extractor.INCEPTION_URL in str(told.value) and str(tmp_path / "inception") in str(told.value)
    (tmp_path / "inception").mkdir()
    (tmp_path / "inception" / extractor.INCEPTION_FILE).write_bytes(b"something else")
    with pytest.raises(AdmError, match=r"wrong file: its sha256 is [0-9a-f]{8}\.\.\., that .* is 6726825d\.\.\."):
        open_extractor("inception", "digits", [tmp_path])


def test_inception_is_given_8_bit_rgb(tmp_path, monkeypatch):
    """With random weights of the right shapes: the features are torch-fidelity's for the same uint8 images."""
    from torch_fidelity import feature_extractor_inceptionv3 as theirs

    with monkeypatch.context() as patch:
        patch.setattr(theirs, "load_state_dict_from_url", lambda *_, **__: {})
        patch.setattr(theirs.FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)
        random = theirs.FeatureExtractorInceptionV3("random", ["2048"])
    path = tmp_path / "inception" / extractor.INCEPTION_FILE
    path.parent.mkdir()
    torch.save(random.state_dict(), path)
    monkeypatch.setattr(extractor, "INCEPTION_DIGEST", hashlib.sha256(path.read_bytes()).hexdigest())
    found = open_extractor("inception", "digits", [tmp_path])
    assert (found.name, found.dimensions, found.distances) == ("inception", 2048, ("fid", "kid"))
    pixels = torch.randint(0, 256, (2, 1, 8, 8), dtype=torch.uint8)
    features = found.features(pixels.float() / 127.5 - 1)
    with torch.no_grad():
        assert torch.allclose(features, random(pixels.expand(-1, 3, -1, -1))[0], atol=1e-6)
