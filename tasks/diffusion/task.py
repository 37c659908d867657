"""Diffusion as the training loop sees it: a benchmark opened with a protocol."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from adm_core import checkpoint
from adm_core.batch import Batch
from adm_core.errors import AdmError, unknown
from adm_core.method import Facts
from adm_core.network_definition import NetworkDefinition
from adm_core.taps import Network, unwrap
from adm_core.task import GenerativeTask, Scores, TaskContext
from adm_core.yaml_file import read_mapping
from tasks import datasets
from tasks.datasets.splits import open_splits
from tasks.diffusion import data_settings, evaluation, export, extractor, networks
from tasks.diffusion.batches import NoisyBatches
from tasks.diffusion.evaluation import Sampling
from tasks.diffusion.networks.denoiser import Denoiser
from tasks.diffusion.networks.inheritance import inherit
from tasks.diffusion.offer import OFFER
from tasks.diffusion.reference import RealImages
from tasks.diffusion.sampling import Schedule, initial_noise, sample
from tasks.known_scores import computed_by

_BENCHMARKS: dict[str, dict[str, Any]] = read_mapping(Path(__file__).with_name("benchmarks.yaml"))
"""Read with this module, so that workers forked from a process that has imported it need not do it again."""


class DiffusionTask(GenerativeTask):
    """A benchmark with its images in place, batches of noisy images drawn from a seed, and an evaluation by sampling.

    Args:
        context: classifiers and Inception's weights are looked for where data sets are; what cells share are the
            features of the training images; views of their own cannot be had, as both networks see the same noisy
            images.

    Raises:
        AdmError: unknown benchmark, invalid data settings, missing or damaged data, no extractor, too few samples.
    """

    kind: Literal["denoiser"] = "denoiser"

    def __init__(self, context: TaskContext) -> None:
        self.benchmark, protocol, device = context.benchmark, context.protocol, context.device
        if self.benchmark not in _BENCHMARKS:
            raise unknown("benchmark", self.benchmark, _BENCHMARKS)
        self.spec, self.device = _BENCHMARKS[self.benchmark], device
        self.settings = settings = data_settings.read(protocol.data, f"protocol '{protocol.title}'")
        context.check_needs(OFFER.offered(settings, context.condition))
        self.metric = str(self.spec["metric"]["name"])
        self.higher_is_better = bool(self.spec["metric"]["higher_is_better"])
        self.unit = str(self.spec["metric"]["unit"])
        self._roots, folder = tuple(context.data_roots), context.artefacts
        self._kept = evaluation.Kept(folder, "|".join(computed_by(context))) if folder else None
        dataset = str(self.spec["dataset"])
        opened = open_splits(
            settings,
            lambda split: datasets.load(dataset, split, self._roots, context.download, context.artefacts),
            self.benchmark,
            int(self.spec["classes"]),
        )
        self.train, self.validation, self.test = opened
        self.has_validation = self.validation is not None
        noise, drawn = settings.noise, settings.sampling
        self.schedule = Schedule(noise.schedule, noise.timesteps, noise.prediction)
        self.process = self.schedule.process(device)
        self.sampling = Sampling(drawn.samples, drawn.steps, drawn.further_steps, drawn.guidance, drawn.batch_size)
        self.extractor = extractor.open_extractor(str(self.spec["extractor"]), dataset, self._roots, device)
        self.sampling.check(self.schedule, self.extractor, len(self.train))
        self._images, labels = extractor.as_tensors(self.train)
        self.loader = NoisyBatches(
            self._images,
            labels if settings.conditional else None,
            self.process,
            protocol.recipe.batch_size,
            context.seed,
            device,
            settings.flip,
            self._classify,
            self.classes if settings.label_dropout else None,
            settings.label_dropout,
        )
        self.steps_per_epoch = self.loader.steps_per_epoch
        self.steps = protocol.recipe.epochs * self.steps_per_epoch
        self.batch_size = protocol.recipe.batch_size

    @property
    def classes(self) -> int | None:
        """How many classes images have that networks are told of; None where they are told nothing."""
        return int(self.spec["classes"]) if self.settings.conditional else None

    def network(self, name: str, definition: NetworkDefinition | None = None) -> Network:
        """Build one denoiser for this benchmark's images, on the device.

        Args:
            name: of a network this task knows, or the suite's own with its ``definition``.
            definition: what a network of the suite's own is.
        """
        spec, labels = self.spec, self.classes
        if labels is not None and self.settings.label_dropout:
            labels += 1  # the last one means none
        built = networks.build(name, int(spec["channels"]), int(spec["image_size"]), labels, definition)
        built.module.to(self.device)
        return built

    def load(self, network: Network, weights: Mapping[str, Tensor], where: str) -> str:
        """Put the weights of a Diffusers U-Net into a network.

        Raises:
            AdmError: they are not this network's.
        """
        return checkpoint.fit(network, networks.as_denoiser(weights), where, self.benchmark)

    def inherit(self, student: Network, teacher: Network) -> None:
        """Give a student the weights of the teacher's blocks that it has, where the protocol says so."""
        if self.settings.inherit:
            inherit(student, teacher)

    def example(self) -> tuple[Tensor, ...]:
        """Two noisy images with their timesteps, and classes where networks are told them."""
        side = int(self.spec["image_size"])
        images = torch.zeros(2, int(self.spec["channels"]), side, side, device=self.device)
        zeros = torch.zeros(2, dtype=torch.int64, device=self.device)
        return (images, zeros) if self.classes is None else (images, zeros, zeros)

    def batches(self, epoch: int, start: int) -> Iterator[Batch]:
        """The batches of an epoch (counted from 0) from step ``start`` on."""
        return self.loader.batches(epoch, start)

    def task_loss(self, prediction: Tensor, batch: Batch) -> Tensor:
        """Squared error of the prediction at each position, mean over channels, [B, H, W].

        With ``snr_gamma`` γ each example is weighted by ``min(SNR, γ)`` of its timestep over what its kind of
        prediction already implies: SNR (noise), SNR + 1 (velocity) or 1 (clean image); arXiv:2303.09556, section 3.4.
        """
        error = (prediction - batch.target).pow(2).mean(1)
        gamma = self.settings.snr_gamma
        if gamma is None or batch.noising is None:
            return error
        snr = self.process.snr(batch.noising.timestep)
        implied = {"epsilon": snr, "v_prediction": snr + 1, "sample": torch.ones_like(snr)}
        weight = snr.clamp_max(gamma) / implied[self.process.prediction]
        return error * weight.view(-1, 1, 1)

    def evaluate(self, evaluated: Mapping[str, Network], split: str) -> Scores:
        """Scores of the images that each network makes, compared with the training images; see :mod:`.evaluation`.

        Held-out errors are of the images of ``validation`` or ``test``. ``test`` is the validation split where the
        protocol's ``data.scored`` says so.
        """
        chosen = self.validation if split == "validation" else self.test
        if chosen is None:
            raise AdmError("this protocol has no validation split; set data.validation")
        images, labels = extractor.as_tensors(chosen)
        found = evaluation.evaluate(
            {role: network.module for role, network in evaluated.items()},
            self.schedule,
            self.sampling,
            RealImages(
                self._images,
                images,
                labels if self.settings.conditional else None,
                self.classes,
                self._noises(chosen),
            ),
            self.extractor,
            self._kept,
            self.device,
            evaluated["student"].sampler if "student" in evaluated else "ddim",
        )
        self.costs = {"sampling": found.sampling}
        return found.scores

    def samples(self, network: Network, count: int) -> Tensor:
        """The first images that a network makes when it is scored, float32 [count, C, H, W] in [-1, 1]."""
        side = int(self.spec["image_size"])
        channels, split = int(self.spec["channels"]), self._noises(self.test)
        noise = initial_noise(self.sampling.samples, channels, side, split)[:count].to(self.device)
        labels = None if self.classes is None else torch.arange(len(noise), device=self.device) % self.classes
        s = self.sampling
        return sample(network.module, noise, self.schedule, s.steps, labels, s.batch_size, network.sampler)

    def _noises(self, chosen: Any) -> Literal["validation", "test"]:
        """The split of whose noises images are made."""
        return "validation" if chosen is self.validation else "test"

    def export(self, network: Network, folder: Path) -> None:
        """Write a pipeline folder that Diffusers' ``DDIMPipeline`` and ``DDPMPipeline`` load."""
        module = unwrap(network.module)
        assert isinstance(module, Denoiser)
        export.save(module, folder, self.schedule.scheduler())

    def facts(self) -> Facts:
        """The training images; what they show is no target."""
        return Facts(len(self.train), None, None, self.steps, self.batch_size)

    def data_digest(self) -> str | None:
        """Digest of what is trained and scored on, and of the extractor's weights."""
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        digests = {name: split.digest() for name, split in parts.items() if split is not None}
        digests["extractor"] = self.extractor.digest
        return ", ".join(f"{name} {digest[:12]}" for name, digest in digests.items())

    def _classify(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return self._classifier.classify(images)

    @functools.cached_property
    def _classifier(self) -> extractor.ClassifierExtractor:
        """The extractor where it is the suite's classifier; or else that, opened when first asked for."""
        if isinstance(self.extractor, extractor.ClassifierExtractor):
            return self.extractor
        return extractor.open_classifier(str(self.spec["dataset"]), self._roots, self.device)


TASK = DiffusionTask
