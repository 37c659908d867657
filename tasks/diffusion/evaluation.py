"""What trained denoisers are worth: the images they make, and their error on held-out images."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adm_core.card import Sampler
from adm_core.errors import AdmError, Diverged
from adm_core.task import Scores
from tasks import artefacts
from tasks.diffusion import distances
from tasks.diffusion.denoising_error import denoising_error
from tasks.diffusion.extractor import Extractor
from tasks.diffusion.reference import RealImages, Reference, reference
from tasks.diffusion.sampling import Guided, Schedule, initial_noise, sample
from tasks.known_scores import libraries

PAIRED = 1000
"""How many images of student and teacher are compared one by one."""
GUIDED = ("precision", "recall")
"""Scores under guidance beside the Fréchet distance: it makes images more typical and less various."""


@dataclass(frozen=True)
class Sampling:
    """How images are made for scoring.

    Attributes:
        samples: how many images.
        steps: sampling steps of the main scores.
        further_steps: other numbers of steps, whose Fréchet distances are slices.
        guidance: strengths of classifier-free guidance, whose scores in two passes are slices.
        batch_size: images at a time.
    """

    samples: int
    steps: int
    further_steps: tuple[int, ...] = ()
    guidance: tuple[float, ...] = ()
    batch_size: int = 256

    def check(self, schedule: Schedule, extractor: Extractor, real: int) -> None:
        """Refuse before anything is trained what could not be scored after it.

        Args:
            schedule: of the denoisers.
            extractor: of features.
            real: how many training images there are to compare with.

        Raises:
            AdmError: too few images for the metrics, or an impossible number of steps.
        """
        needed = distances.fewest(extractor.dimensions)
        for what, count in (("generated", self.samples), ("training", real)):
            if count < needed:
                raise AdmError(
                    f"scoring with {count} {what} images: the {extractor.dimensions}-dimensional features of extractor "
                    f"'{extractor.name}' need {needed} or more"
                )
        for steps in (self.steps, *self.further_steps):
            schedule.check_steps(steps)


class Kept(NamedTuple):
    """Where the reference is kept, and what frozen denoisers make.

    Attributes:
        folder: of files, each named for all that it depends on.
        computed_by: what that is beside weights, images and settings: code, libraries, device and arithmetic.
    """

    folder: Path
    computed_by: str


class Evaluation(NamedTuple):
    """Scores, and what making images took.

    Attributes:
        scores: by role and metric.
        sampling: ``seconds`` that all images took which were made here, and the student's ``images_per_s`` in the
            main number of steps.
    """

    scores: Scores
    sampling: dict[str, float]


def evaluate(
    denoisers: Mapping[str, nn.Module],
    schedule: Schedule,
    sampling: Sampling,
    real: RealImages,
    extractor: Extractor,
    kept: Kept | None,
    device: torch.device | str,
    sampler: Sampler = "ddim",
) -> Evaluation:
    """Metrics of each denoiser, all from the same initial noises, those of the split; the same for the same weights.

    ``frechet`` and ``kernel`` in the space of the suite's classifier, ``fid`` and ``kid`` in Inception's;
    ``precision``, ``recall``, ``density``, ``coverage`` and ``nearest_train`` in percent
    (:mod:`tasks.diffusion.distances`); ``denoising_error``, overall and by timestep; Fréchet distances at further
    numbers of steps as slices, ``frechet/4 steps``, and three scores under guidance, ``recall/guidance 2``.
    Beside a teacher the student also has ``teacher_mse``, over the pixels of the first 1,000 images that both make of
    the same noise, and ``teacher_cosine``, the mean cosine of their features.

    Args:
        denoisers: by role, on the device; they are put in evaluation mode.
        schedule: with which they were trained.
        sampling: how images are made.
        real: images to compare with.
        extractor: of features.
        kept: where the reference is kept, and what a frozen denoiser makes; None: nowhere.
        device: of the denoisers.
        sampler: how images are made of the student; of all others by DDIM.

    Raises:
        Diverged: a denoiser makes values that are not finite; names the role.
        AdmError: too few images for the metrics.
    """
    sampling.check(schedule, extractor, len(real.train))
    judge = _Judge(schedule, sampling, real, extractor, kept, torch.device(device))
    made = {}
    for role, denoiser in denoisers.items():
        try:
            made[role] = judge(denoiser, sampler if role == "student" else "ddim")
        except Diverged as error:
            raise Diverged(f"{role}: {error}") from error
    scores: Scores = {role: dict(found.scores) for role, found in made.items()}
    if "teacher" in made and "student" in made:
        scores["student"] |= _fidelity(made["student"], made["teacher"])
    sampling_cost = {"seconds": math.fsum(found.seconds for found in made.values())}
    if "student" in made:
        sampling_cost["images_per_s"] = made["student"].images_per_s
    return Evaluation(scores, sampling_cost)


@dataclass(frozen=True)
class _Made:
    """What one denoiser made: scores, the first images with their features, and what sampling took."""

    scores: dict[str, float]
    images: Tensor
    features: Tensor
    seconds: float = 0.0
    images_per_s: float = 0.0


class _Judge:
    """Scores denoisers one by one, all from the same noises and against the same images."""

    def __init__(
        self,
        schedule: Schedule,
        sampling: Sampling,
        real: RealImages,
        extractor: Extractor,
        kept: Kept | None,
        device: torch.device,
    ) -> None:
        self.schedule, self.sampling, self.real, self.extractor = schedule, sampling, real, extractor
        self.kept, self.device = kept, device
        self.known = reference(real.train, real.held_out, extractor, kept.folder if kept else None)
        self.train = real.train.to(extractor.device)
        channels, size = real.train.shape[1], real.train.shape[-1]
        self.noise = initial_noise(sampling.samples, channels, size, real.split).to(device)
        self.labels = None if real.classes is None else torch.arange(sampling.samples, device=device) % real.classes

    def __call__(self, denoiser: nn.Module, sampler: Sampler) -> _Made:
        """What a denoiser makes; for a frozen one, which many students have as their teacher, as it was kept."""
        weights = list(denoiser.parameters())
        if self.kept is None or not weights or any(weight.requires_grad for weight in weights):
            return self._look(denoiser, sampler)
        state, config = denoiser.state_dict(), dict(getattr(getattr(denoiser, "unet", None), "config", {}))
        told = (self.schedule, self.sampling, sampler, self.real.split, self.known.digest, self.kept.computed_by)
        what = "|".join(map(str, ("samples 4", *told, config, repr(denoiser), *libraries(denoiser), *state)))
        path = self.kept.folder / f"{artefacts.digest(what, state.values())}.safetensors"
        known = artefacts.read(path)
        if known is None:
            found = self._look(denoiser, sampler)
            tensors = {"images": found.images, "features": found.features}
            artefacts.write(path, tensors, json.dumps(found.scores))
            return found
        kept, remark = known
        return _Made(json.loads(remark), kept["images"].to(self.device), kept["features"].to(self.extractor.device))

    def _look(self, denoiser: nn.Module, sampler: Sampler) -> _Made:
        s, seconds, speed, frechet = self.sampling, 0.0, 0.0, self.extractor.distances[0]
        scores: dict[str, float] = {}
        pair: tuple[Tensor, Tensor] | None = None
        for steps, guidance in (*((n, 0.0) for n in (s.steps, *s.further_steps)), *((s.steps, w) for w in s.guidance)):
            begun = time.perf_counter()
            images = sample(
                self._guided(denoiser, guidance), self.noise, self.schedule, steps, self.labels, s.batch_size, sampler
            )
            # Whether they are finite was asked on the CPU, so that the device has done all of it by now.
            took = time.perf_counter() - begun
            seconds += took
            features = self.extractor.features(images)
            if pair is None:
                pair, speed = (images[:PAIRED], features[:PAIRED]), len(images) / took
                scores |= _scores(self.known, images, features, self.train, self.extractor)
            elif guidance:
                found = distances.manifold_scores(self.known.features, features)
                found[frechet] = distances.frechet_distance(self.known.features, features)
                scores |= {f"{metric}/guidance {guidance:g}": found[metric] for metric in (frechet, *GUIDED)}
            else:
                part = f"{frechet}/{steps} steps" if steps > 1 else f"{frechet}/1 step"
                scores[part] = distances.frechet_distance(self.known.features, features)
        scores |= denoising_error(denoiser, self.schedule, self.real, self.device, s.batch_size)
        assert pair is not None
        return _Made(scores, *pair, seconds, speed)

    def _guided(self, denoiser: nn.Module, strength: float) -> nn.Module:
        if not strength:
            return denoiser
        assert self.real.classes is not None  # the settings see to it; the label after the classes means none
        return Guided(denoiser, strength, self.real.classes)


def _scores(
    known: Reference, images: Tensor, features: Tensor, train: Tensor, extractor: Extractor
) -> dict[str, float]:
    """Of the images that one denoiser makes, in the main number of steps."""
    frechet, kernel = extractor.distances
    near = distances.nearest(images.to(train.device), train)
    return {
        frechet: distances.frechet_distance(known.features, features),
        kernel: distances.kernel_distance(known.features, features),
        **distances.manifold_scores(known.features, features),
        "nearest_train": distances.nearest_train(near, known.nearest),
    }


def _fidelity(student: _Made, teacher: _Made) -> dict[str, float]:
    return {
        "teacher_mse": float((student.images - teacher.images).double().square().mean()),
        "teacher_cosine": float(F.cosine_similarity(student.features.double(), teacher.features.double()).mean()),
    }
