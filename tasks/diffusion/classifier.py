"""The suite's own classifiers of whole images, in whose feature space generated images are compared."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from adm_core.checkpoint import not_finite
from adm_core.errors import AdmError
from adm_core.seeds import derive
from adm_files import replacing


@dataclass(frozen=True)
class Architecture:
    """A small ResNet: every stage after the first halves the resolution.

    Attributes:
        channels: of the images.
        classes: K.
        widths: channels of each stage; the last is the number of features, D.
        blocks: residual blocks of each stage.
    """

    channels: int
    classes: int
    widths: tuple[int, ...]
    blocks: int


@dataclass(frozen=True)
class Training:
    """How a classifier is trained: AdamW, one-cycle learning rate, label smoothing 0.1.

    Attributes:
        epochs: passes over the training images.
        batch_size: images per step.
        learning_rate: the highest.
        shift: images are moved by up to so many pixels, black coming in.
        flip: half of the images are mirrored.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    shift: int
    flip: bool


class Block(nn.Module):
    """A basic residual block (He et al., arXiv:1512.03385): [B, C, H, W] → [B, D, H / stride, W / stride]."""

    def __init__(self, entering: int, width: int, stride: int) -> None:
        super().__init__()
        self.first = _convolution(entering, width, 3, stride)
        self.second = _convolution(width, width, 3)
        same = entering == width and stride == 1
        self.shortcut = nn.Identity() if same else _convolution(entering, width, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """The block's output."""
        output: Tensor = (self.second(self.first(x).relu()) + self.shortcut(x)).relu()
        return output


class Classifier(nn.Module):
    """Images [B, C, H, W] in [-1, 1] → (features [B, D], logits [B, K])."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        widths = architecture.widths
        blocks: list[nn.Module] = [_convolution(architecture.channels, widths[0], 3), nn.ReLU()]
        entering = widths[0]
        for stage, width in enumerate(widths):
            for block in range(architecture.blocks):
                blocks.append(Block(entering, width, 2 if stage and not block else 1))
                entering = width
        self.body = nn.Sequential(*blocks)
        self.head = nn.Linear(entering, architecture.classes)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features, averaged over positions, and logits."""
        features = self.body(images).mean((2, 3))
        return features, self.head(features)


def train(
    architecture: Architecture, training: Training, images: Tensor, labels: Tensor, device: torch.device | str = "cpu"
) -> Classifier:
    """A classifier trained with a fixed seed.

    Args:
        architecture: of the classifier.
        training: the recipe.
        images: float32 [N, C, H, W] in [-1, 1].
        labels: int64 [N].
        device: where it is trained.

    Returns:
        The classifier on the CPU, in evaluation mode.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive(0, "classifier"))  # torch.manual_seed reseeds GPUs as well
        model = Classifier(architecture).to(device).train()
    generator = torch.Generator().manual_seed(derive(0, "classifier batches"))
    steps = math.ceil(len(images) / training.batch_size)
    optimizer = torch.optim.AdamW(model.parameters(), training.learning_rate, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, training.learning_rate, training.epochs * steps)
    images, labels = images.to(device), labels.to(device)
    for _ in range(training.epochs):
        for index in torch.randperm(len(images), generator=generator).split(training.batch_size):
            batch = _augmented(images[index.to(device)], training, generator)
            loss = F.cross_entropy(model(batch)[1], labels[index.to(device)], label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return model.cpu().eval()


def accuracy(model: Classifier, images: Tensor, labels: Tensor) -> float:
    """Share in percent of images [N, C, H, W] in [-1, 1] whose label [N] the classifier names."""
    with torch.inference_mode():
        found = torch.cat([model(batch)[1].argmax(1) for batch in images.split(256)])
    return 100 * float((found == labels).double().mean())


def save(model: Classifier, path: Path) -> None:
    """Write a classifier with its architecture to a safetensors file.

    Args:
        model: to be written.
        path: of the file; its folder is made.
    """
    weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    # One entry only: safetensors writes several in an order that changes, and the file's digest with it.
    with replacing(path) as new:
        save_file(weights, new, {"architecture": json.dumps(asdict(model.architecture))})


def load(path: Path) -> Classifier:
    """The classifier in a file that :func:`save` wrote: on the CPU, in evaluation mode, its weights frozen.

    Raises:
        AdmError: the file is damaged, not a classifier of this suite, or its weights are not finite.
    """
    try:
        with safe_open(path, "pt") as file:
            told = json.loads(file.metadata()["architecture"])
        model = Classifier(Architecture(**{**told, "widths": tuple(told["widths"])}))
        weights = load_file(path)
        model.load_state_dict(weights)
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise AdmError(f"{path} is damaged or no classifier of this suite: {error}; make it anew") from error
    broken = not_finite(weights)
    if broken:
        raise AdmError(f"{path}: weights are not finite: {broken}; make it anew")
    return model.eval().requires_grad_(False)


def _augmented(images: Tensor, training: Training, generator: torch.Generator) -> Tensor:
    """Images of a batch moved and mirrored, each in its own way."""
    count, _, height, width = images.shape
    reach = training.shift
    padded = F.pad(images, (reach,) * 4, value=-1.0)
    down, right = torch.randint(0, 2 * reach + 1, (2, count), generator=generator)
    mirrored = torch.randint(0, 2, (count,), generator=generator).bool() & training.flip
    rows = down[:, None] + torch.arange(height)
    across = torch.arange(width).expand(count, -1)
    columns = right[:, None] + torch.where(mirrored[:, None], across.flip(1), across)
    whole = torch.arange(count).view(-1, 1, 1, 1), torch.arange(images.shape[1]).view(1, -1, 1, 1)
    index = *whole, rows[:, None, :, None], columns[:, None, None, :]
    return padded[tuple(part.to(images.device) for part in index)]


def _convolution(entering: int, width: int, kernel: int, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(entering, width, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(width))
