"""Scores of denoisers whose images are known."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from adm_core.errors import AdmError, Diverged
from adm_core.seeds import derive
from tasks import datasets
from tasks.diffusion import distances, networks
from tasks.diffusion.denoising_error import denoising_error
from tasks.diffusion.evaluation import Kept, Sampling, evaluate
from tasks.diffusion.extractor import as_tensors, open_classifier
from tasks.diffusion.networks.denoiser import Denoiser
from tasks.diffusion.reference import RealImages
from tasks.diffusion.sampling import Guided, Schedule, initial_noise, sample
from tests.diffusion.denoisers import Broken, Remembering

SCHEDULE = Schedule(prediction="v_prediction")
SAMPLING = Sampling(samples=200, steps=4, further_steps=(1, 2), batch_size=64)
REAL_METRICS = {"frechet", "kernel", "precision", "recall", "density", "coverage", "nearest_train"}


class Constant(nn.Module):
    """Predicts the same value everywhere; what it was told is kept."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value, self.told = value, []

    def forward(self, noisy, timestep, label=None):
        self.told.append((timestep, label))
        return torch.full_like(noisy, self.value)


@pytest.fixture(scope="module")
def extractor():
    return open_classifier("digits", [])


@pytest.fixture(scope="module")
def real():
    (train, _), (held_out, _) = (as_tensors(datasets.load("digits", split, [])) for split in ("train", "test"))
    return RealImages(train, held_out)


def drawing(images: torch.Tensor) -> Remembering:
    """A denoiser that turns each noise into the one of ``images`` that is most like it."""
    flat = images.flatten(1)
    return Remembering(SCHEDULE, lambda noisy: images[(noisy.flatten(1) @ flat.T).argmax(1)])


@pytest.fixture(scope="module")
def found(real, extractor):
    denoisers = {"student": drawing(real.held_out), "teacher": drawing(real.train)}
    return evaluate(denoisers, SCHEDULE, SAMPLING, real, extractor, None, "cpu")


def test_every_metric_is_there_and_frechet_distances_at_further_steps_are_slices(found):
    bins = {f"denoising_error/t{100 * n:03}-{100 * n + 99:03}" for n in range(10)}
    slices = {"frechet/1 step", "frechet/2 steps"}
    expected = REAL_METRICS | bins | slices | {"denoising_error"}
    assert set(found.scores["teacher"]) == expected
    assert set(found.scores["student"]) == expected | {"teacher_mse", "teacher_cosine"}
    assert found.sampling["seconds"] > 0 and found.sampling["images_per_s"] > 0
    assert all(type(value) is float for scores in found.scores.values() for value in scores.values())


def test_scores_are_those_of_the_images_the_denoisers_make(found, real, extractor):
    noise = initial_noise(200, 1, 8)
    made = {role: sample(drawing(images), noise, SCHEDULE, 4, batch_size=64)
            for role, images in (("student", real.held_out), ("teacher", real.train))}  # fmt: skip
    features = {role: extractor.features(images) for role, images in made.items()}
    reference = extractor.features(real.train)
    for role, scores in found.scores.items():
        assert scores["frechet"] == pytest.approx(distances.frechet_distance(reference, features[role]), rel=1e-6)
        assert scores["kernel"] == pytest.approx(distances.kernel_distance(reference, features[role]), rel=1e-6)
        assert {name: scores[name] for name in ("precision", "recall", "density", "coverage")} == pytest.approx(
            distances.manifold_scores(reference, features[role])
        )
    one = extractor.features(sample(drawing(real.train), noise, SCHEDULE, 1))
    expected = distances.frechet_distance(reference, one)
    assert found.scores["teacher"]["frechet/1 step"] == pytest.approx(expected, rel=1e-6)
    student = found.scores["student"]
    assert student["teacher_mse"] == pytest.approx(float((made["student"] - made["teacher"]).square().mean()), rel=1e-5)
    cosine = torch.cosine_similarity(features["student"], features["teacher"]).mean()
    assert student["teacher_cosine"] == pytest.approx(float(cosine), rel=1e-5)


def test_copies_of_training_images_are_told_from_fresh_ones(found):
    assert found.scores["teacher"]["nearest_train"] == 100
    assert found.scores["student"]["nearest_train"] < 10


def test_scores_are_the_same_every_time_and_with_a_kept_reference(found, real, extractor, tmp_path):
    denoisers = {"student": drawing(real.held_out), "teacher": drawing(real.train)}
    torch.manual_seed(77)
    for _ in range(2):
        again = evaluate(denoisers, SCHEDULE, SAMPLING, real, extractor, Kept(tmp_path, "here"), "cpu")
        assert again.scores == found.scores
    assert len(list(tmp_path.iterdir())) == 1


def test_classes_take_turns_and_held_out_images_keep_theirs(real, extractor):
    labels = torch.arange(500) % 7
    denoiser, few = Constant(0.0), Sampling(samples=70, steps=1, batch_size=70)
    evaluate(
        {"student": denoiser}, SCHEDULE, few, RealImages(real.train, real.held_out, labels, 10), extractor, None, "cpu"
    )
    told = [label for _, label in denoiser.told]
    assert torch.equal(told[0], torch.arange(70) % 10)
    assert torch.equal(torch.cat(told[1:]), labels.repeat(10))
    evaluate({"student": denoiser}, SCHEDULE, few, real, extractor, None, "cpu")
    assert all(label is None for _, label in denoiser.told[len(told) :])


def test_scores_under_guidance_are_those_of_images_made_in_two_passes(real, extractor):
    """Told the class the denoiser means an image of it, told none the mean of all."""
    train, labels = datasets.load("digits", "train", []), torch.arange(200) % 10
    of_class = torch.stack([real.train[torch.as_tensor(train.labels) == label].mean(0) for label in range(10)])
    means = torch.cat([of_class, of_class.mean(0, keepdim=True)])

    class Conditional(Remembering):
        def forward(self, noisy, timestep, label):
            self.clean = lambda noisy: (means[label] + 0.3 * noisy).clamp(-1, 1)
            return super().forward(noisy, timestep, label)

    denoiser, noise = Conditional(SCHEDULE), initial_noise(200, 1, 8)
    judged = RealImages(real.train, real.held_out, torch.zeros(len(real.held_out), dtype=torch.int64), 10)
    guided = replace(SAMPLING, guidance=(0.5, 2.0))
    scores = evaluate({"student": denoiser}, SCHEDULE, guided, judged, extractor, None, "cpu").scores["student"]
    reference = extractor.features(real.train)
    for strength in (0.5, 2):
        made = sample(Guided(denoiser, strength, 10), noise, SCHEDULE, 4, labels)
        features = extractor.features(made)
        theirs = distances.manifold_scores(reference, features)
        assert scores[f"frechet/guidance {strength}"] == pytest.approx(
            distances.frechet_distance(reference, features), rel=1e-6
        )
        assert {name: scores[f"{name}/guidance {strength}"] for name in ("precision", "recall")} == pytest.approx(
            {name: theirs[name] for name in ("precision", "recall")}
        )
    assert scores["frechet"] != pytest.approx(scores["frechet/guidance 0.5"], rel=1e-3)
    plain = evaluate({"student": denoiser}, SCHEDULE, SAMPLING, judged, extractor, None, "cpu").scores["student"]
    assert plain == {name: value for name, value in scores.items() if "guidance" not in name}


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_the_denoising_error_is_a_literal_mean_over_noised_images(real, prediction):
    schedule, held_out = Schedule(prediction=prediction), real.held_out[:30]
    denoiser = Constant(0.25)
    found = denoising_error(denoiser, schedule, RealImages(real.train, held_out), "cpu", 16)
    process, errors = schedule.process(), []
    for part in range(10):
        generator = torch.Generator().manual_seed(derive(0, "held-out noise", 100 * part))
        timestep = torch.randint(100 * part, 100 * part + 100, (30,), generator=generator)
        noise = torch.randn(held_out.shape, generator=generator)
        squares = []
        for image, error, t in zip(held_out, noise, timestep.tolist(), strict=True):
            alpha, sigma = process.alphas[t], process.sigmas[t]
            target = {"epsilon": error, "v_prediction": alpha * error - sigma * image, "sample": image}[prediction]
            squares.append(float((target - 0.25).square().mean()))
        errors.append(sum(squares) / 30)
        assert found[f"denoising_error/t{100 * part:03}-{100 * part + 99:03}"] == pytest.approx(errors[-1], rel=1e-5)
    assert found["denoising_error"] == pytest.approx(sum(errors) / 10, rel=1e-5)
    assert torch.cat([timestep for timestep, _ in denoiser.told]).unique().numel() > 200


def test_a_denoiser_that_knows_the_images_makes_no_error(real):
    one = RealImages(real.train, real.held_out[:1].expand(20, -1, -1, -1))
    for prediction in ("epsilon", "v_prediction", "sample"):
        schedule = Schedule(prediction=prediction)
        knows = Remembering(schedule, lambda noisy: one.held_out[:1].expand_as(noisy))
        assert denoising_error(knows, schedule, one, "cpu", 8)["denoising_error"] < 1e-6


def test_values_that_are_not_finite_are_told_with_the_role(real, extractor):
    with pytest.raises(Diverged, match="teacher: sampling in 4 steps: 4 of 200 images"):
        evaluate({"teacher": Broken()}, SCHEDULE, SAMPLING, real, extractor, None, "cpu")
    with pytest.raises(Diverged, match="denoising error on held-out images is not finite"):
        denoising_error(Broken(), SCHEDULE, real, "cpu", 64)


def test_what_could_not_be_scored_is_refused_beforehand(real, extractor):
    with pytest.raises(AdmError, match=r"64 generated images: the 64-dimensional .* 'classifier' need 65 or more"):
        evaluate({"student": Broken()}, SCHEDULE, Sampling(64, 4), real, extractor, None, "cpu")
    with pytest.raises(AdmError, match="10 training images"):
        Sampling(100, 4).check(SCHEDULE, extractor, 10)
    with pytest.raises(AdmError, match="sampling in 3 steps"):
        Sampling(100, 4, (2, 3)).check(SCHEDULE, extractor, 1000)


def test_what_a_frozen_denoiser_makes_is_kept_and_used_again(real, extractor, tmp_path):
    teacher = networks.build("unet-w8", 1, 8).module.requires_grad_(False)
    first, again = (
        evaluate(
            {"student": Constant(0.5), "teacher": teacher},
            SCHEDULE,
            SAMPLING,
            real,
            extractor,
            Kept(tmp_path, "here"),
            "cpu",
        )
        for _ in range(2)
    )
    assert again.scores == first.scores and again.sampling["seconds"] < first.sampling["seconds"]
    with torch.no_grad():
        teacher.unet.conv_out.bias += 0.1
    other = evaluate({"teacher": teacher}, SCHEDULE, SAMPLING, real, extractor, Kept(tmp_path, "here"), "cpu")
    assert other.scores["teacher"] != first.scores["teacher"]
    assert len(list(tmp_path.iterdir())) == 3  # the reference, and two teachers


def test_what_is_kept_is_of_one_network_one_split_and_one_code(real, extractor, tmp_path):
    """A network's config may change what it computes, and neither its weights nor what it prints."""
    built = networks.build("unet-w8", 1, 8).module.requires_grad_(False)
    turned = Denoiser(dict(built.unet.config) | {"flip_sin_to_cos": not built.unet.config["flip_sin_to_cos"]})
    turned.load_state_dict(built.state_dict())
    turned.requires_grad_(False)
    assert repr(turned) == repr(built)
    validation = replace(real, split="validation")
    asked = [(built, real, "a"), (turned, real, "a"), (built, validation, "a"), (built, real, "b"), (built, real, "a")]
    scores = [
        evaluate({"teacher": module}, SCHEDULE, SAMPLING, images, extractor, Kept(tmp_path, code), "cpu").scores
        for module, images, code in asked
    ]
    assert len(list(tmp_path.iterdir())) == 1 + 4  # the reference, and all but the last
    assert scores[0] == scores[3] == scores[4]
    assert len({found["teacher"]["frechet"] for found in scores}) == 3
