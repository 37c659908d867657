"""Image classification as the training loop sees it: a benchmark opened with a protocol."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adm_core import checkpoint, layout
from adm_core.batch import WHOLE, Batch, Share
from adm_core.condition import Condition, LabelNoise, Shift
from adm_core.errors import AdmError, unknown
from adm_core.insight import ObjectExamples
from adm_core.method import Facts, Needs
from adm_core.network_definition import NetworkDefinition
from adm_core.seeds import derive
from adm_core.taps import Network
from adm_core.task import ENSEMBLE, Scores, Task, TaskContext, equals
from adm_core.yaml_file import read_mapping
from tasks import datasets
from tasks.classification import data_settings, metrics, networks
from tasks.classification.batches import InMemoryBatches, evaluation_batches
from tasks.classification.networks import normalisation
from tasks.classification.offer import OFFER
from tasks.datasets.class_folders import list_images
from tasks.datasets.images import ImageSet
from tasks.datasets.loading import with_unlabelled
from tasks.datasets.source import Split
from tasks.datasets.splits import open_splits
from tasks.known_scores import Judged, KnownScores

if TYPE_CHECKING:
    from tasks.classification.folder_batches import FolderBatches
    from tasks.datasets.label_noise import Noisy

EVALUATION_BATCH = 500
MOST_FLIPPED = 10_000
"""Training pictures with wrong labels that are asked for at most when a network is scored."""
_BENCHMARKS: dict[str, dict[str, Any]] = read_mapping(Path(__file__).with_name("benchmarks.yaml"))
"""Read with this module, so that workers forked from a process that has imported it need not do it again."""


class ClassificationTask(Task):
    """A benchmark with its splits in place, batches drawn from a seed, and an evaluation.

    Args:
        context: its needs say whether the teacher gets its own augmentation of each image, whether there is a
            stronger one, and whether batches are class-balanced.

    Raises:
        AdmError: unknown benchmark, invalid data settings, missing or damaged data.
    """

    kind: Literal["class_logits"] = "class_logits"

    def __init__(self, context: TaskContext) -> None:
        condition = context.condition or Condition()
        self.benchmark, protocol, where = context.benchmark, context.protocol, f"protocol '{context.protocol.title}'"
        self.spec, self._own = _specification(context), context.own
        self.settings = data_settings.read(protocol.data, where)
        context.check_needs(OFFER.offered(self.settings, condition))
        data_settings.check_used(self.settings, bool(self.spec["in_memory"]), where)
        self.device, self.classes = context.device, int(self.spec["classes"])
        self.metric, self.unit = (str(self.spec["metric"][key]) for key in ("name", "unit"))
        self.higher_is_better = bool(self.spec["metric"]["higher_is_better"])
        given = (lambda split: _load(context, self.spec, split)), self.benchmark, self.classes
        self.train, self.validation, self.test = open_splits(self.settings, *given)
        self.noisy: Noisy[Any] | None = None
        self.unlabelled: InMemoryBatches | FolderBatches | None = None
        if condition.noise:
            self._make_noisy(condition.noise)
        self.loader = self._make_loader(self.train, protocol.recipe.batch_size, context.seed, context.needs)
        if condition.shift:
            self._shift(condition.shift, context)
        self.steps_per_epoch, self.batch_size = self.loader.steps_per_epoch, protocol.recipe.batch_size
        self.steps = protocol.recipe.epochs * self.steps_per_epoch
        self.has_validation = self.validation is not None
        self.known = KnownScores(context, self.data_digest)

    def _make_noisy(self, noise: LabelNoise) -> None:
        """Put wrong labels among those that are trained on."""
        from tasks.datasets.label_noise import noisy  # loads scipy, which benchmarks as they are do without

        self.noisy = noisy(self.train, noise, _taken_for(self.spec))
        self.train, flipped = self.noisy.train, len(self.noisy.flipped)
        self.noise = {"digest": self.noisy.digest, "flipped": flipped, "examples": len(self.train)}

    def _shift(self, shift: Shift, context: TaskContext) -> None:
        """Change the pictures that are scored; where the method asks for them, give training pictures so changed."""
        from tasks.datasets.shifts import shifted  # loads scipy

        self.test = shifted(self.test, shift, context.artefacts)
        if context.needs.unlabelled:
            pictures, seed = shifted(self.train, shift, context.artefacts), derive(context.seed, "unlabelled")
            self.unlabelled = self._make_loader(pictures, context.protocol.recipe.batch_size, seed, Needs())

    def network(self, name: str, definition: NetworkDefinition | None = None) -> Network:
        """Build one network for this benchmark's classes and image size, on the device.

        Args:
            name: of a network this task knows, or the suite's own with its ``definition``.
            definition: what a network of the suite's own is.
        """
        given = normalisation.Normalisation(tuple(self.spec["mean"]), tuple(self.spec["std"]))
        built = networks.build(name, self.classes, int(self.spec["image_size"]), definition, given)
        layout.channels_last(built.module.to(self.device), f"network '{name}'")
        return built

    def load(self, network: Network, weights: Mapping[str, Tensor], where: str) -> str:
        """Put weights from elsewhere into a network; ``where`` names their file in messages.

        Raises:
            AdmError: they are not this network's, or are made for another number of classes.
        """
        renamed = checkpoint.fit(network, weights, where, self.benchmark)
        return "; ".join(filter(None, (renamed, normalisation.told(network.module))))

    def example(self) -> tuple[Tensor]:
        """Two inputs as the networks get them, to find shapes with."""
        side = int(self.spec["image_size"])
        empty = torch.zeros(2, 3, side, side, device=self.device)
        return (empty.contiguous(memory_format=torch.channels_last),)

    def batches(self, epoch: int, start: int) -> Iterator[Batch]:
        """The batches of an epoch (counted from 0) from step ``start`` on."""
        return self.shares(epoch, start, WHOLE)

    def shares(self, epoch: int, start: int, share: Share) -> Iterator[Batch]:
        """What one of several processes takes of them; files of the rest stay unread."""
        labelled = self.loader.batches(epoch, start, share)
        return with_unlabelled(labelled, self.unlabelled.batches(epoch, start, share)) if self.unlabelled else labelled

    def task_loss(self, prediction: Tensor, batch: Batch) -> Tensor:
        """Cross-entropy of logits [B, K] against labels [B], per example [B]."""
        return F.cross_entropy(prediction, batch.target, reduction="none")

    def evaluate(self, evaluated: Mapping[str, Network], split: str) -> Scores:
        """Metrics of each network on ``validation`` or ``test``, plus the student's agreement with the teacher.

        Networks that train as equals are scored together as well, as the mean of their softmax outputs.

        Temperature scaling is fitted on the validation split and applied to the test split only. ``test`` is the
        validation split where the protocol's ``data.scored`` says so. A frozen teacher is judged once for all cells.
        """
        chosen = self.validation if split == "validation" else self.test
        if chosen is None:
            raise AdmError("this protocol has no validation split; set data.validation")
        teacher = evaluated.get("teacher")
        known = self.known.find(teacher, split) if teacher else None
        judged = {"teacher": known} if known else {}
        fresh = self._judge({role: network for role, network in evaluated.items() if role not in judged}, chosen)
        for role in fresh.keys() & evaluated.keys():
            if split == "test" and self.noisy:
                fresh[role].scores["memorised"] = self._memorised(evaluated[role], self.noisy)
        if teacher and not known:
            self.known.keep(teacher, split, fresh["teacher"])
        judged |= fresh
        result: Scores = {role: dict(found.scores) for role, found in judged.items()}
        if "teacher" in judged:
            result["student"]["agreement"] = metrics.agreement(judged["student"].named, judged["teacher"].named)
        return result

    def _judge(self, networks: Mapping[str, Network], chosen: Any) -> dict[str, Judged]:
        """The worth of each network on a split, and of the ensemble of equals."""
        if not networks:
            return {}
        logits, labels = self._predict(networks, chosen)
        temperature: dict[str, float] = {}
        if chosen is not self.validation and self.validation is not None:
            held_out, targets = self._predict(networks, self.validation)
            temperature = {role: metrics.fit_temperature(found, targets) for role, found in held_out.items()}
        return {
            role: Judged(metrics.scores(found, labels, temperature.get(role)), found.argmax(1))
            for role, found in logits.items()
        }

    def _memorised(self, network: Network, noisy: Noisy[Any]) -> float:
        """Share in percent of the wrong labels, or of so many, that a network names for the pictures that have them."""
        wrong = noisy.train.take(noisy.flipped).limit(MOST_FLIPPED)
        logits, labels = self._predict({"student": network}, wrong)
        return 100 * float((logits["student"].argmax(1) == labels).double().mean())

    def object_examples(self, count: int) -> Iterator[ObjectExamples]:
        """Images of the split that is scored with their exact object masks, always the same ones in the same order.

        Args:
            count: how many, classes in equal parts; all where there are fewer.

        Raises:
            AdmError: this benchmark knows no masks.
        """
        if not isinstance(self.test, ImageSet) or self.test.masks is None:
            raise AdmError(f"the images of {self.spec['title']} have no object masks")
        chosen, start = self.test.limit(count), 0
        masks = torch.from_numpy(chosen.masks).bool().to(self.device)
        pixels = torch.from_numpy(chosen.images)
        for inputs, target in evaluation_batches(
            chosen, EVALUATION_BATCH, self.device, self.spec["mean"], self.spec["std"]
        ):
            part = slice(start, start + len(target))
            index = torch.arange(part.start, part.stop, device=self.device)
            yield ObjectExamples(Batch(inputs, inputs, target, index), masks[part], pixels[part])
            start = part.stop

    def standalone(self, network: Network) -> tuple[nn.Module, tuple[Tensor, ...]]:
        """The network behind the benchmark's normalisation: it takes images [B, 3, H, W] in 0..1."""
        normalise = normalisation.Normalise(tuple(self.spec["mean"]), tuple(self.spec["std"])).to(self.device)
        return nn.Sequential(normalise, network.module), self.example()

    def facts(self) -> Facts:
        """The training images and their labels."""
        labels = torch.as_tensor(self.train.labels).long().to(self.device)
        return Facts(len(self.train), self.classes, labels, self.steps, self.batch_size)

    def data_digest(self) -> str:
        """Digest of the images trained and scored on; of sets of files that of their names and sizes."""
        if self._own is not None:
            return self._own.digest[:12]
        splits = (self.train, self.validation, self.test)
        return "-".join(split.digest()[:12] for split in splits if split is not None)

    def _make_loader(self, train: Any, batch_size: int, seed: int, needs: Needs) -> InMemoryBatches | FolderBatches:
        given: dict[str, Any] = {
            "mean": self.spec["mean"], "std": self.spec["std"], "views": needs.augmentations,
            "extra_view": needs.extra_view is not None, "per_class": needs.per_class, "flip": self.settings.flip,
        }  # fmt: skip
        if not self.spec["in_memory"]:
            # torchvision takes seconds to import, which sets in memory need not pay in every worker
            from tasks.classification.folder_batches import FolderBatches

            return FolderBatches(train, batch_size, seed, self.device, size=int(self.spec["image_size"]), **given)
        padding = self.settings.crop_padding
        return InMemoryBatches(train, batch_size, seed, self.device, crop_padding=padding, **given)

    def _predict(self, networks: Mapping[str, Network], split: Any) -> tuple[dict[str, Tensor], Tensor]:
        """Logits [N, K] of each network and the ensemble of equals, and labels [N].

        One pass over the images, which are decoded once for all.
        """
        mean, std = self.spec["mean"], self.spec["std"]
        if isinstance(split, ImageSet):
            batches = evaluation_batches(split, EVALUATION_BATCH, self.device, mean, std)
        else:
            from tasks.classification.folder_batches import folder_evaluation_batches

            side = int(self.spec["image_size"])
            batches = folder_evaluation_batches(split, EVALUATION_BATCH, self.device, mean, std, side)
        logits: dict[str, list[Tensor]] = {role: [] for role in networks}
        labels = []
        for network in networks.values():
            network.module.eval()
        with torch.inference_mode():
            for images, target in batches:
                for role, network in networks.items():
                    logits[role].append(network.module(images).float().cpu())
                labels.append(target.cpu())
        whole = {role: torch.cat(found) for role, found in logits.items()}
        members = [whole[role] for role in equals(whole)]
        return whole | ({ENSEMBLE: metrics.ensemble(members)} if members else {}), torch.cat(labels)


def _specification(context: TaskContext) -> dict[str, Any]:
    """The entry of the benchmark, as ``benchmarks.yaml`` has it."""
    own = context.own
    if own is not None:
        return {
            "title": own.name, "classes": own.classes, "image_size": own.image_size, "in_memory": False,
            "mean": own.mean, "std": own.std, "metric": {"name": "top1", "higher_is_better": True, "unit": "%"},
        }  # fmt: skip
    if context.benchmark not in _BENCHMARKS:
        raise unknown("benchmark", context.benchmark, _BENCHMARKS)
    return _BENCHMARKS[context.benchmark]


def _taken_for(spec: Mapping[str, Any]) -> dict[str, str] | None:
    """Which class is taken for which under asymmetric noise; None: each for the next."""
    groups = spec.get("superclasses", ())
    within = {name: group[(i + 1) % len(group)] for group in groups for i, name in enumerate(group)}
    return spec.get("taken_for") or within or None


def _load(context: TaskContext, spec: Mapping[str, Any], split: Split) -> Any:
    """One split of the benchmark."""
    own = context.own
    if own is None:
        name, given = str(spec["dataset"]), (context.data_roots, context.download, context.artefacts)
        return datasets.load(name, split, *given)
    if split not in own.splits:
        raise AdmError(
            f"benchmark '{own.name}' has no split '{split}' of its own, only {', '.join(own.splits)}; carve one from "
            "train with the protocol's data.validation"
        )
    return list_images(own.splits[split])


TASK = ClassificationTask
