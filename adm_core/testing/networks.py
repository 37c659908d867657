"""Tiny real networks and batches, on which a method's contract is tried in seconds on a CPU."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adm_core.align import resize_map
from adm_core.batch import Batch, noisy_batch
from adm_core.errors import Unsupported
from adm_core.method import Facts, Needs
from adm_core.noising import NoiseProcess, Noising
from adm_core.taps import Network

CLASSES, EXAMPLES = 10, 12
VOID_EXAMPLE = 1
"""The example of a batch of pixels in which nothing is valid."""

BATCHES = 9
"""Batches that make up the training set."""

LEVELS = 20
"""Timesteps of the noise schedule."""

Form = Literal["images", "pixels", "denoisers"]
"""What is predicted: the class of whole images, of every pixel of them, or the noise in them."""

SIDES: dict[Form, int] = {"images": 14, "pixels": 16, "denoisers": 16}
"""Side of the inputs; that of images gives a stage of odd side, of which the next is not half as large."""


class TinyNet(nn.Module):
    """Three convolutional stages (sides 7, 4, 4 for inputs of 14) and a linear classifier.

    The first stage begins with a normalisation of its input, which no convolution can take in.
    """

    def __init__(self, width: int, classes: int = CLASSES) -> None:
        super().__init__()
        self.stages = _stages(width, strides=(2, 2, 1))
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(4 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images [B, 3, H, W] → logits [B, K]."""
        for stage in self.stages:
            x = stage(x)
        logits: Tensor = self.head(self.pool(x))
        return logits


class TinyDenseNet(nn.Module):
    """Three convolutional stages (side 8 each for inputs of 16), a classifier at every position, an auxiliary one."""

    def __init__(self, width: int, classes: int = CLASSES) -> None:
        super().__init__()
        self.stages = _stages(width, strides=(2, 1, 1))
        self.penultimate = nn.Sequential(nn.Conv2d(4 * width, 2 * width, 1), nn.ReLU())
        self.head = nn.Conv2d(2 * width, classes, 1)
        self.auxiliary = nn.Conv2d(2 * width, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Images [B, 3, H, W] → logits [B, K, H / 2, W / 2]."""
        x = self.stages[1](self.stages[0](x))
        if self.training or self.auxiliary._forward_hooks:
            self.auxiliary(x)
        logits: Tensor = self.head(self.penultimate(self.stages[2](x)))
        return logits


class TinyDenoiser(nn.Module):
    """A U-Net of two levels (sides 8 and 4 for inputs of 16) with attention in the middle, told the timestep."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.time = nn.Sequential(nn.Linear(8, width), nn.SiLU())
        self.down1, self.down2 = _block(3, width, 2), _block(width, width, 2)
        self.attention = _Attention(width)
        self.mid = nn.Conv2d(width, width, 1)
        self.up2, self.up1 = _block(2 * width, width), _block(2 * width, width)
        self.head = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, noisy: Tensor, timestep: Tensor, label: Tensor | None = None) -> Tensor:
        """Noisy images [B, 3, H, W], timesteps [B] and perhaps labels [B] → what they predict, [B, 3, H, W]."""
        phases = timestep[:, None] * torch.logspace(0, -2, 4, device=noisy.device)
        if label is not None:
            phases = phases + label[:, None]
        first = self.down1(noisy) + self.time(torch.cat([phases.sin(), phases.cos()], 1))[:, :, None, None]
        second = self.down2(first)
        x = self.up2(torch.cat([self.mid(second + self.attention(second)), second], 1))
        x = self.up1(torch.cat([F.interpolate(x, scale_factor=2.0), first], 1))
        predicted: Tensor = self.head(F.interpolate(x, scale_factor=2.0))
        return predicted


class _Attention(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer = nn.MultiheadAttention(width, 1, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2).transpose(1, 2)
        attended: Tensor = self.layer(tokens, tokens, tokens)[0]
        return attended.transpose(1, 2).view_as(x)


def _block(before: int, after: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, after, 3, stride, 1), nn.GroupNorm(2, after), nn.SiLU())


def _stages(width: int, strides: tuple[int, int, int]) -> nn.ModuleList:
    widths = [3, width, 2 * width, 4 * width]
    stages = nn.ModuleList(
        nn.Sequential(nn.Conv2d(a, b, 3, s, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU())
        for a, b, s in zip(widths[:-1], widths[1:], strides, strict=True)
    )
    stages[0].insert(0, nn.BatchNorm2d(3))  # type: ignore[operator]
    return stages


def tiny_network(width: int, seed: int = 0, form: Form = "images") -> Network:
    """A :class:`TinyNet`, :class:`TinyDenseNet` or :class:`TinyDenoiser` with its taps, initialised from ``seed``."""
    if form == "denoisers":
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            denoiser = TinyDenoiser(width).to(memory_format=torch.channels_last)
        places = {name: name for name in ("down1", "down2", "mid", "up2", "up1")}
        places |= {"last": "up1", "mid.attention": "attention", "noise": "head"}
        return Network(f"tiny{width}", denoiser, places)
    taps = {f"stage{i + 1}": f"stages.{i}" for i in range(3)} | {"logits": "head"}
    norms = {f"stage{i + 1}.preact": f"stages.{i}.{2 if i == 0 else 1}" for i in range(3)}
    taps |= norms
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        if form == "images":
            module: nn.Module = TinyNet(width).to(memory_format=torch.channels_last)
            return Network(f"tiny{width}", module, taps | {"penultimate": "pool"}, "head", normalisation=norms)
        module = TinyDenseNet(width).to(memory_format=torch.channels_last)
    taps |= {"penultimate": "penultimate", "auxiliary1": "auxiliary"}
    return Network(f"tiny{width}", module, taps, auxiliary={"auxiliary1": 0.4}, normalisation=norms)


def tiny_batch(seed: int = 0, needs: Needs = Needs(), form: Form = "images") -> Batch:  # noqa: B008  # frozen
    """Random images and labels, or noise; of pixels a quarter is void, and of one example every one.

    Batch ``seed`` of :data:`BATCHES` holds the training set's examples from ``seed · EXAMPLES`` on.

    Args:
        seed: which batch.
        needs: of the method, which may ask for two views, a stronger one, pictures without labels, or balanced classes.
        form: of the prediction.

    Raises:
        Unsupported: the form has no such batches.
    """
    if form == "denoisers" and needs.unlabelled:
        raise Unsupported("there are no pictures without labels for denoisers, whose targets are no labels")
    generator = torch.Generator().manual_seed(seed)
    inputs = [_images(form, generator) for _ in range(needs.augmentations)]
    first, second, peers = inputs[0], inputs[:2][-1], tuple(inputs[2:])
    index = torch.arange(EXAMPLES) + EXAMPLES * (seed % BATCHES)
    if form == "denoisers":
        noising = _noising(first.clamp(-1, 1), generator)
        if "null-class" in needs.capabilities:  # the last class means none
            noising = replace(noising, label=torch.arange(EXAMPLES) % CLASSES, null_label=CLASSES - 1)
        return noisy_batch(noising, index)
    if form == "images":
        target = torch.randint(CLASSES, (EXAMPLES,), generator=generator)
        if needs.per_class:
            classes = torch.randperm(CLASSES, generator=generator)[: EXAMPLES // needs.per_class]
            target = classes.repeat_interleave(needs.per_class)
        batch = Batch(first, second, target, index, peer_inputs=peers)
    else:
        blocks = (EXAMPLES, SIDES[form] // 4, SIDES[form] // 4)
        coarse = torch.randint(CLASSES, blocks, generator=generator)
        valid = torch.rand(blocks, generator=generator) > 0.25
        valid[VOID_EXAMPLE] = False
        # Blocks of pixels, so that at any resolution that a tap has here a position is wholly valid or wholly void.
        target, mask = (x.repeat_interleave(4, 1).repeat_interleave(4, 2) for x in (coarse, valid))
        batch = Batch(first, second, target, index, mask, peer_inputs=peers)
    batch = replace(batch, extra_input=_images(form, generator)) if needs.extra_view else batch
    return replace(batch, unlabelled_input=_images(form, generator)) if needs.unlabelled else batch


def tiny_facts(form: Form = "images") -> Facts:
    """The training set that the batches of seeds 0 to :data:`BATCHES` - 1 make up."""
    labels = torch.cat([tiny_batch(seed).target for seed in range(BATCHES)]) if form == "images" else None
    classes = None if form == "denoisers" else CLASSES
    return Facts(BATCHES * EXAMPLES, classes, labels, steps=100, batch_size=EXAMPLES)


def _images(form: Form, generator: torch.Generator) -> Tensor:
    images = torch.randn(EXAMPLES, 3, SIDES[form], SIDES[form], generator=generator)
    return images.contiguous(memory_format=torch.channels_last)


def _noising(clean: Tensor, generator: torch.Generator) -> Noising:
    """Noise on images at random timesteps, and a classifier of three fixed features."""
    angle = torch.linspace(0.05, 0.49, LEVELS) * torch.pi
    process = NoiseProcess(angle.cos(), angle.sin(), "v_prediction")
    noise = torch.randn(clean.shape, generator=generator)
    timestep = torch.randint(LEVELS, (len(clean),), generator=generator)
    return Noising(process, clean, noise, timestep, classifier=_classify)


def _classify(images: Tensor) -> tuple[Tensor, Tensor]:
    features = images.mean((2, 3))
    return features, features.repeat(1, 4)[:, :CLASSES]


def task_loss(prediction: Tensor, batch: Batch) -> Tensor:
    """Cross-entropy of logits per example [B] or pixel [B, H, W]; of noise the squared error per position."""
    if batch.noising is not None:
        return (prediction - batch.target).pow(2).mean(1)
    if prediction.dim() == 4:
        prediction = resize_map(prediction, (batch.target.shape[1], batch.target.shape[2]))
    return F.cross_entropy(prediction, batch.target, reduction="none")
