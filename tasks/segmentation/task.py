"""Semantic segmentation as the training loop sees it: a benchmark opened with a protocol."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from adm_core import checkpoint, layout
from adm_core.align import resize_map
from adm_core.batch import WHOLE, Batch, Share
from adm_core.condition import Shift
from adm_core.errors import AdmError, unknown
from adm_core.insight import ObjectExamples
from adm_core.method import Facts
from adm_core.network_definition import NetworkDefinition
from adm_core.seeds import derive
from adm_core.taps import Network, unwrap
from adm_core.task import Scores, Task, TaskContext
from adm_core.yaml_file import read_mapping
from tasks import datasets
from tasks.datasets.loading import with_unlabelled
from tasks.datasets.scenes import VOID
from tasks.datasets.splits import open_splits
from tasks.known_scores import Judged, KnownScores
from tasks.segmentation import compat, data_settings, evaluation, export, networks
from tasks.segmentation.batches import TrainingBatches, evaluation_batches
from tasks.segmentation.networks.segmentor import Segmentor
from tasks.segmentation.offer import OFFER

EVALUATION_BATCH = 16
compat.load()  # with this module, so that workers forked from a process that has imported it need not do it again
_BENCHMARKS: dict[str, dict[str, Any]] = read_mapping(Path(__file__).with_name("benchmarks.yaml"))  # likewise


class SegmentationTask(Task):
    """A benchmark with its splits in place, batches drawn from a seed, and an evaluation.

    Args:
        context: with views of its own the teacher gets its own colours of each crop.

    Raises:
        AdmError: unknown benchmark, invalid data settings, missing or damaged data, MMSegmentation missing.
    """

    kind: Literal["class_logits"] = "class_logits"

    def __init__(self, context: TaskContext) -> None:
        shift = context.condition.shift if context.condition else None
        self.benchmark, protocol = context.benchmark, context.protocol
        if self.benchmark not in _BENCHMARKS:
            raise unknown("benchmark", self.benchmark, _BENCHMARKS)
        self.spec = _BENCHMARKS[self.benchmark]
        self.settings = data_settings.read(protocol.data, f"protocol '{protocol.title}'")
        context.check_needs(OFFER.offered(self.settings, context.condition))
        self.device, self.classes = context.device, int(self.spec["classes"])
        self.metric = str(self.spec["metric"]["name"])
        self.higher_is_better = bool(self.spec["metric"]["higher_is_better"])
        self.unit = str(self.spec["metric"]["unit"])
        name, given = str(self.spec["dataset"]), (context.data_roots, context.download, context.artefacts)
        opened = open_splits(
            self.settings, lambda split: datasets.load(name, split, *given), self.benchmark, self.classes
        )
        self.train, self.validation, self.test = opened
        views, batch_size = context.needs.augmentations, protocol.recipe.batch_size
        self.loader = TrainingBatches(self.train, self.settings, batch_size, context.seed, self.device, views)
        self.unlabelled: TrainingBatches | None = None
        if shift is not None:
            self._shift(shift, context)
        self.steps_per_epoch = self.loader.steps_per_epoch
        self.steps = protocol.recipe.epochs * self.steps_per_epoch
        self.batch_size = protocol.recipe.batch_size
        self.has_validation = self.validation is not None
        self.known = KnownScores(context, self.data_digest)

    def _shift(self, shift: Shift, context: TaskContext) -> None:
        """Change the pictures that are scored; where the method asks for them, give training pictures so changed."""
        from tasks.datasets.shifts import shifted  # loads scipy, which benchmarks as they are do without

        self.test = shifted(self.test, shift, context.artefacts)
        if context.needs.unlabelled:
            # where crops are drawn by what they show, labels would have a say
            blind = self.settings.model_copy(update={"class_limit": 1.0})
            pictures, seed = shifted(self.train, shift, context.artefacts), derive(context.seed, "unlabelled")
            self.unlabelled = TrainingBatches(pictures, blind, context.protocol.recipe.batch_size, seed, self.device)

    def network(self, name: str, definition: NetworkDefinition | None = None) -> Network:
        """Build one network for this benchmark's classes, on the device.

        Args:
            name: of a network this task knows, or the suite's own with its ``definition``.
            definition: what a network of the suite's own is.
        """
        built = networks.build(name, self.classes, self.settings.pretrained, definition)
        layout.channels_last(built.module.to(self.device), f"network '{name}'")
        return built

    def load(self, network: Network, weights: Mapping[str, Tensor], where: str) -> str:
        """Put weights from elsewhere, named as MMSegmentation names them, into a network.

        Raises:
            AdmError: they are not this network's, or are made for another number of classes.
        """
        return checkpoint.fit(network, weights, where, self.benchmark)

    def example(self) -> tuple[Tensor]:
        """Two inputs as the networks get them, to find shapes with."""
        empty = torch.zeros(2, 3, *self.settings.crop, device=self.device)
        return (empty.contiguous(memory_format=torch.channels_last),)

    def batches(self, epoch: int, start: int) -> Iterator[Batch]:
        """The batches of an epoch (counted from 0) from step ``start`` on."""
        return self.shares(epoch, start, WHOLE)

    def shares(self, epoch: int, start: int, share: Share) -> Iterator[Batch]:
        """What one of several processes takes of them; files of the rest stay unread."""
        labelled = self.loader.batches(epoch, start, share)
        return with_unlabelled(labelled, self.unlabelled.batches(epoch, start, share)) if self.unlabelled else labelled

    def task_loss(self, prediction: Tensor, batch: Batch) -> Tensor:
        """Cross-entropy of logits [B, K, h, w], interpolated to the labels' size, per pixel of labels [B, H, W]."""
        logits = resize_map(prediction, (batch.target.shape[1], batch.target.shape[2]))
        return F.cross_entropy(logits, batch.target, reduction="none")

    def evaluate(self, evaluated: Mapping[str, Network], split: str) -> Scores:
        """IoU of each network on ``validation`` or ``test``, on labels at their own size.

        ``test`` is the validation split where the protocol's ``data.scored`` says so. A frozen teacher is evaluated
        once for all cells.
        """
        chosen = self.validation if split == "validation" else self.test
        if chosen is None:
            raise AdmError("this protocol has no validation split; set data.validation")
        modules = {role: _segmentor(network) for role, network in evaluated.items()}
        teacher = evaluated.get("teacher")
        known = self.known.find(teacher, split) if teacher else None
        if known:
            del modules["teacher"]
        keep = teacher is not None and known is None and self.known.keeps(teacher)
        batches = evaluation_batches(chosen, EVALUATION_BATCH, self.device)
        maps = known.named if known else None
        found = evaluation.evaluate(modules, batches, chosen.classes, self.settings.sliding, maps, keep)
        if known:
            return found.scores | {"teacher": known.scores}
        if teacher and found.teacher is not None:
            self.known.keep(teacher, split, Judged(found.scores["teacher"], found.teacher))
        return found.scores

    def object_examples(self, count: int) -> Iterator[ObjectExamples]:
        """Images of the split that is scored with the pixels of their object classes, always the same ones in order.

        Args:
            count: how many, evenly spread over the split; all where there are fewer.

        Raises:
            AdmError: this benchmark tells no object classes.
        """
        names = self.spec["objects"]
        if not names or self.test is None:
            raise AdmError(f"{self.spec['title']} does not tell objects from stuff")
        chosen, start = self.test.limit(count), 0
        wanted = torch.tensor([chosen.classes.index(name) for name in names], device=self.device)
        for images, labels in evaluation_batches(chosen, EVALUATION_BATCH, self.device):
            valid = labels != VOID
            index = torch.arange(start, start + len(labels), device=self.device)
            batch = Batch(images, images, labels.long() * valid, index, valid)
            yield ObjectExamples(batch, torch.isin(labels, wanted), images.to(torch.uint8).cpu())
            start += len(labels)

    def export(self, network: Network, folder: Path) -> None:
        """Write ``config.py`` and ``weights.pth`` for MMSegmentation's ``init_model``."""
        export.save(_segmentor(network), folder, self.train.classes, self.train.palette, self.settings.sliding)

    def facts(self) -> Facts:
        """The training images, whose pixels have labels and which themselves have none."""
        return Facts(len(self.train), self.classes, None, self.steps, self.batch_size)

    def data_digest(self) -> str:
        """Digest of what is trained and scored on; of sets of files that of their names and sizes."""
        splits = (self.train, self.validation, self.test)
        return "-".join(split.digest()[:12] for split in splits if split is not None)


def _segmentor(network: Network) -> Segmentor:
    module = unwrap(network.module)
    assert isinstance(module, Segmentor)
    return module


TASK = SegmentationTask
