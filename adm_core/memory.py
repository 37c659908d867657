"""Memories that a method keeps of earlier batches, as modules whose buffers travel in checkpoints."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace

import torch
from torch import Generator, Tensor, nn

from adm_core.losses.denoising import step_ends
from adm_core.losses.features import unit
from adm_core.noising import Noising


class ClassQueue(nn.Module):
    """First-in-first-out queues of embeddings, one of fixed length per class.

    Takes ``4 · classes · size · width`` bytes. Nothing here waits for the device.

    Args:
        classes: number of queues, K.
        size: most entries that one of them holds.
        width: C, channels of an embedding.
    """

    entries: Tensor
    written: Tensor

    def __init__(self, classes: int, size: int, width: int) -> None:
        super().__init__()
        self.size = size
        # One row more than there are slots: what is not to be kept is written there, as dropping it would need its
        # count on the host.
        self.register_buffer("entries", torch.zeros(classes * size + 1, width))
        self.register_buffer("written", torch.zeros(classes, dtype=torch.int64))

    def filled(self) -> Tensor:
        """How many entries each queue holds, int64 [K]."""
        return self.written.clamp_max(self.size)

    @torch.no_grad()
    def push(self, rows: Tensor, valid: Tensor) -> None:
        """Append rows to their queues in order; the oldest entries make room.

        Args:
            rows: [K, M, C], M candidates for each queue.
            valid: bool [K, M], which of them there are.
        """
        rank, keep = valid.cumsum(1) - 1, self._kept(valid)
        slot = (self.written[:, None] + rank) % self.size
        first = torch.arange(len(rows), device=rows.device)[:, None] * self.size
        index = torch.where(keep, first + slot, len(self.entries) - 1)
        self.entries[index.flatten()] = rows.flatten(0, 1).to(self.entries.dtype)
        self.entries[-1] = 0
        self.written += valid.sum(1)

    @torch.no_grad()
    def sample(self, count: int, rows: Tensor, valid: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """A random choice, without replacement, of what each queue would hold after ``push(rows, valid)``.

        The queues stay as they are, so that a batch can be contrasted with itself and the past, and pushed once its
        step is done.

        Args:
            count: most entries to choose of each class.
            rows: [K, M, C].
            valid: bool [K, M].
            generator: randomness, on the device of the queues.

        Returns:
            Embeddings [K · n, C] with n the smaller of ``count`` and size + M, and bool [K · n]: which of them there
            are, as a queue may hold fewer.
        """
        slots, classes = torch.arange(self.size, device=rows.device), len(rows)
        overwritten = (slots - self.written[:, None]) % self.size < valid.sum(1, keepdim=True)
        there = torch.cat([(slots < self.filled()[:, None]) & ~overwritten, self._kept(valid)], dim=1)
        keys = torch.rand(there.shape, generator=generator, device=rows.device).masked_fill(~there, 2.0)
        chosen = keys.topk(min(count, there.shape[1]), dim=1, largest=False).indices
        of_class = torch.arange(classes, device=rows.device)[:, None]
        old = self.entries[of_class * self.size + chosen.clamp_max(self.size - 1)]
        new = rows[of_class, (chosen - self.size).clamp_min(0)].to(old.dtype)
        found = torch.where((chosen < self.size)[..., None], old, new)
        return found.flatten(0, 1), there.gather(1, chosen).flatten()

    def _kept(self, valid: Tensor) -> Tensor:
        """The last of the rows offered [K, M], as many as a queue holds."""
        return valid & (valid.flip(1).cumsum(1).flip(1) <= self.size)


class ExampleBank(nn.Module):
    """One embedding of length one for each training example: a moving average over the times it was seen.

    Takes ``4 · examples · width`` bytes. Nothing here waits for the device.

    Args:
        examples: N.
        width: C, channels of an embedding.
        momentum: share of the old entry that an update keeps, in [0, 1].
    """

    entries: Tensor
    log_normaliser: Tensor

    def __init__(self, examples: int, width: int, momentum: float) -> None:
        super().__init__()
        self.momentum = momentum
        bound = math.sqrt(3 / width)  # of length one on average
        self.register_buffer("entries", torch.empty(examples, width).uniform_(-bound, bound))
        self.register_buffer("log_normaliser", torch.tensor(-math.inf))

    def log_ratios(self, anchors: Tensor, chosen: Tensor, temperature: float) -> Tensor:
        """``⟨a, m_j⟩ / τ - log Z`` of anchors with chosen entries m, [B, K].

        Z is N times the mean of ``exp(⟨a, m_j⟩ / τ)`` over the first call's anchors and entries, and stays.

        Args:
            anchors: [B, C], of length one.
            chosen: which entries, int64 [B, K].
            temperature: τ.
        """
        similar = (anchors @ self.entries.T).gather(1, chosen) / temperature
        first = similar.detach().logsumexp((0, 1)) + math.log(len(self.entries) / similar.numel())
        self.log_normaliser.copy_(torch.where(self.log_normaliser.isinf(), first, self.log_normaliser))
        return similar - self.log_normaliser

    @torch.no_grad()
    def update(self, index: Tensor, embeddings: Tensor) -> None:
        """Draw the entries ``index``, int64 [B], towards embeddings [B, C] and scale them to length one."""
        old = self.entries[index]
        self.entries.index_copy_(0, index, unit(embeddings.to(old.dtype).lerp(old, self.momentum)))


class NegativeSampler(nn.Module):
    """Draws, for training examples, examples of other classes.

    Args:
        labels: class of each training example, int64 [N]; a class of its own for each draws from all other examples.
        count: how many to draw; fewer where there are not so many outside the largest class.
    """

    labels: Tensor

    def __init__(self, labels: Tensor, count: int) -> None:
        super().__init__()
        labels = labels.cpu()
        self.count = min(count, len(labels) - int(labels.bincount().max()))
        self.register_buffer("labels", labels, persistent=False)  # the data set's, so in no checkpoint

    def own_and_others(self, index: Tensor, generator: Generator) -> Tensor:
        """Each example itself, then ``count`` of other classes, uniformly and without replacement: [B, 1 + count].

        Args:
            index: positions in the training set, int64 [B].
            generator: randomness on the device of ``index``.
        """
        same = self.labels == self.labels[index][:, None]
        keys = torch.rand(same.shape, generator=generator, device=index.device).masked_fill(same, -1.0)
        return torch.cat([index[:, None], keys.topk(self.count, dim=1, sorted=False).indices], dim=1)


class Counter(nn.Module):
    """A whole number that travels in checkpoints, read without waiting for the device."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def get_extra_state(self) -> int:
        """The number."""
        return self.count

    def set_extra_state(self, state: int) -> None:
        """Take up the number of a checkpoint."""
        self.count = int(state)


class StatePool(nn.Module):
    """Noisy states that a denoiser's sampling passes through, each at a sampling step of its own.

    Takes ``4 · trajectories · steps`` bytes times the size of a state. Nothing here waits for the device.

    Args:
        trajectories: how many sampling trajectories it begins as.
        steps: of sampling in equal steps (:func:`adm_core.losses.denoising.step_ends`).
        shape: of a state, [C, H, W].
    """

    states: Tensor
    to_go: Tensor
    labels: Tensor

    def __init__(self, trajectories: int, steps: int, shape: Iterable[int]) -> None:
        super().__init__()
        self.steps, self.filled = steps, Counter()
        self.register_buffer("states", torch.zeros(trajectories * steps, *shape))
        self.register_buffer("to_go", torch.arange(steps, 0, -1).repeat_interleave(trajectories))
        self.register_buffer("labels", torch.zeros(trajectories * steps, dtype=torch.int64))

    @torch.no_grad()
    def fill(self, network: Callable[..., Tensor], noising: Noising, generator: Generator) -> None:
        """Take in all states of trajectories from noise.

        Args:
            network: called on states, timesteps and labels where ``noising`` has some.
            noising: of a batch, for its schedule, and labels that trajectories take in turns.
            generator: of the noises.
        """
        count, process = len(self.states) // self.steps, noising.process
        if noising.label is not None:
            labels = noising.label.repeat(-(-count // len(noising.label)))[:count]
            noising = replace(noising, label=labels)
            self.labels.copy_(labels.repeat(self.steps))
        state = torch.randn(count, *self.states.shape[1:], generator=generator, device=generator.device)
        state = state.to(self.states.dtype)
        for states, to_go in zip(self.states.split(count), self.to_go.split(count), strict=True):
            states.copy_(state)
            now, end = (step_ends(len(process), self.steps, at) for at in (to_go, to_go - 1))
            state = process.step(network(state, *noising.conditions(now)), state, now, end)
        self.filled.count = 1

    @torch.no_grad()
    def put(self, places: Tensor, moved: Tensor, generator: Generator) -> None:
        """Put states [B, C, H, W] that have moved on by a step at places [B]; fresh noise where it was the last."""
        left = self.to_go[places] - 1
        noise = torch.randn(moved.shape, generator=generator, device=generator.device)
        state = torch.where((left > 0).view(-1, 1, 1, 1), moved, noise)
        self.states.index_copy_(0, places, state.to(self.states.dtype))
        self.to_go.index_copy_(0, places, torch.where(left > 0, left, self.steps))


class RunningMean(nn.Module):
    """A moving average of a scalar that a method steers by: ``v ← momentum · v + (1 - momentum) · new``.

    Args:
        start: v before the first update.
        momentum: in [0, 1].
    """

    value: Tensor

    def __init__(self, start: float, momentum: float) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("value", torch.tensor(start))

    @torch.no_grad()
    def update(self, new: Tensor) -> None:
        """Take in a scalar."""
        self.value.lerp_(new.to(self.value.dtype), 1 - self.momentum)


class ExampleWeights(nn.Module):
    """A weight for each training example, 1 at first.

    Args:
        examples: N.
    """

    values: Tensor

    def __init__(self, examples: int) -> None:
        super().__init__()
        self.register_buffer("values", torch.ones(examples))

    @torch.no_grad()
    def update(self, index: Tensor, weights: Tensor) -> None:
        """Set the weights [B] of the examples ``index``, int64 [B]."""
        self.values.index_copy_(0, index, weights.to(self.values.dtype))


def remembered(batches: Iterable[tuple[Tensor, Tensor, Tensor]], examples: int) -> dict[str, Tensor]:
    """Vectors and labels of a training set, of batches in any order that need not hold every example.

    Args:
        batches: positions int64 [B], vectors [B, C] and labels int64 [B] of each; at least one.
        examples: N.

    Returns:
        ``vectors`` [N, C] of length one and ``labels`` int64 [N]; zeros and -1 for examples that no batch holds.
    """
    index, vectors, labels = (torch.cat(each) for each in zip(*batches, strict=True))
    known = labels.new_full((examples,), -1).index_copy_(0, index, labels)
    kept = vectors.new_zeros(examples, vectors.shape[1]).index_copy_(0, index, unit(vectors))
    return {"vectors": kept, "labels": known}
