"""Language modelling as the training loop sees it: a benchmark opened with a protocol."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from adm_core import checkpoint
from adm_core.batch import Batch
from adm_core.errors import AdmError, unknown
from adm_core.method import Facts
from adm_core.network_definition import NetworkDefinition
from adm_core.taps import Network, unwrap
from adm_core.task import Scores, Task, TaskContext
from adm_core.yaml_file import read_mapping
from tasks import datasets
from tasks.datasets.splits import open_splits
from tasks.known_scores import Judged, KnownScores
from tasks.language import data_settings, evaluation, networks
from tasks.language.batches import TrainingBatches, as_pair, evaluation_batches
from tasks.language.offer import OFFER

EVALUATION_BATCH = 64
_BENCHMARKS: dict[str, dict[str, Any]] = read_mapping(Path(__file__).with_name("benchmarks.yaml"))


class LanguageTask(Task):
    """A text in windows, batches drawn from a seed, and an evaluation in bits per character.

    Predictions are class logits [B, K, 1, T] of the character after each: a text is a picture one row high, so that
    what works on every pixel works on every character. All characters count, so that batches have no mask.

    Args:
        context: views of their own cannot be had, as both networks read the same characters.

    Raises:
        AdmError: unknown benchmark, invalid data settings, the text's package missing or of another version.
    """

    kind: Literal["class_logits"] = "class_logits"

    def __init__(self, context: TaskContext) -> None:
        # GPT2Model makes its attention mask of the embedded characters, so that no end of it runs without its beginning
        self.benchmark, protocol = context.benchmark, context.protocol
        if self.benchmark not in _BENCHMARKS:
            raise unknown("benchmark", self.benchmark, _BENCHMARKS)
        self.spec, self.device = _BENCHMARKS[self.benchmark], context.device
        self.settings = data_settings.read(protocol.data, f"protocol '{protocol.title}'")
        context.check_needs(OFFER.offered(self.settings, context.condition))
        self.metric = str(self.spec["metric"]["name"])
        self.higher_is_better = bool(self.spec["metric"]["higher_is_better"])
        self.unit = str(self.spec["metric"]["unit"])
        name, given = str(self.spec["dataset"]), (context.data_roots, context.download, context.artefacts)
        self.classes = int(self.spec["classes"])
        opened = open_splits(
            self.settings, lambda split: datasets.load(name, split, *given), self.benchmark, self.classes
        )
        self.train, self.validation, self.test = opened
        self.has_validation = self.validation is not None
        self.batch_size = protocol.recipe.batch_size
        self.loader = TrainingBatches(self.train, self.batch_size, context.seed, self.device)
        self.steps_per_epoch = self.loader.steps_per_epoch
        self.steps = protocol.recipe.epochs * self.steps_per_epoch
        self.known = KnownScores(context, self.data_digest)

    def network(self, name: str, definition: NetworkDefinition | None = None) -> Network:
        """Build one network for this benchmark's alphabet and windows, on the device.

        Args:
            name: of a network this task knows, or the suite's own with its ``definition``.
            definition: what a network of the suite's own is.
        """
        built = networks.build(name, self.classes, self.train.length, definition)
        built.module.to(self.device)
        return built

    def load(self, network: Network, weights: Mapping[str, Tensor], where: str) -> str:
        """Put the weights of a ``GPT2LMHeadModel`` into a network.

        Raises:
            AdmError: they are not this network's.
        """
        return checkpoint.fit(network, weights, where, self.benchmark)

    def example(self) -> tuple[Tensor]:
        """Two windows as the networks get them, to find shapes with."""
        return (as_pair(torch.from_numpy(self.train.windows[[0, -1]]).to(self.device))[0],)

    def batches(self, epoch: int, start: int) -> Iterator[Batch]:
        """The batches of an epoch (counted from 0) from step ``start`` on."""
        return self.loader.batches(epoch, start)

    def task_loss(self, prediction: Tensor, batch: Batch) -> Tensor:
        """Cross-entropy of logits [B, K, 1, T] at each character of the target [B, 1, T], in nats."""
        return F.cross_entropy(prediction, batch.target, reduction="none")

    def evaluate(self, evaluated: Mapping[str, Network], split: str) -> Scores:
        """Bits per character of each network on ``validation`` or ``test``; see :mod:`.evaluation`.

        ``test`` is the validation split where the protocol's ``data.scored`` says so. A frozen teacher is evaluated
        once for all cells.
        """
        chosen = self.validation if split == "validation" else self.test
        if chosen is None:
            raise AdmError("this protocol has no validation split; set data.validation")
        modules = {role: network.module for role, network in evaluated.items()}
        teacher = evaluated.get("teacher")
        known = self.known.find(teacher, split) if teacher else None
        if known:
            del modules["teacher"]
        batches = evaluation_batches(chosen, EVALUATION_BATCH, self.device)
        found = evaluation.evaluate(modules, batches, known.named if known else None)
        if known:
            return found.scores | {"teacher": known.scores}
        if teacher and found.teacher is not None:
            self.known.keep(teacher, split, Judged(found.scores["teacher"], found.teacher))
        return found.scores

    def export(self, network: Network, folder: Path) -> None:
        """Write a folder that Transformers' ``AutoModelForCausalLM`` loads, with the alphabet."""
        from tasks.language import gpt2

        module = unwrap(network.module)
        assert isinstance(module, gpt2.LanguageModel)
        gpt2.save(module, folder, self.train.classes)

    def facts(self) -> Facts:
        """The training windows, whose characters have labels and which themselves have none."""
        return Facts(len(self.train), self.classes, None, self.steps, self.batch_size)

    def data_digest(self) -> str:
        """Digest of what is trained and scored on."""
        splits = (self.train, self.validation, self.test)
        return "-".join(split.digest()[:12] for split in splits if split is not None)


TASK = LanguageTask
