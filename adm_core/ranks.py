"""Several processes that train one cell together, each on its share of every step's micro-batches.

How many there are is no part of what a cell is. A recipe says by ``accumulate`` into how many micro-batches a batch
falls, which is what batch normalisation and methods that relate examples see; N processes take an N-th of them each.
Weights, optimisers and schedules are the same in all; gradients are added up before every update, and running
statistics end as if one process had seen the micro-batches in order. So the numbers are those of one process, but for
the order in which gradients are summed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._utils import _flatten_dense_tensors, _unflatten_dense_tensors
from torch.nn.modules.batchnorm import _BatchNorm

from adm_core.batch import Share
from adm_core.distiller import Distiller
from adm_core.errors import AdmError, Parted
from adm_core.optimizer import GroupedSGD
from adm_core.outcome import Outcome

_CHECK_EVERY = 100
_NAMED = 3


@dataclass(frozen=True)
class _Told:
    """What a process tells the others of a step, so that all do the same next."""

    terms: list[tuple[str, ...]]
    logs: list[tuple[str, ...]]
    moving: bytes
    stop: bool


class Ranks:
    """The processes that train a cell together, of which this is one; ``Ranks()``: it is trained by this one alone.

    With more than one, each must have joined torch's default process group, with a backend for CPU tensors beside
    that of the device. Every method is called by all of them at the same moment of training.

    Args:
        rank: of this process, from 0. The first keeps checkpoints and scores.
        count: of all processes.
    """

    def __init__(self, rank: int = 0, count: int = 1) -> None:
        self.rank, self.count = rank, count
        self._steps = 0

    @property
    def is_first(self) -> bool:
        """Whether this process keeps what training makes."""
        return self.rank == 0

    def share(self, parts: int) -> Share:
        """This process's of a step's micro-batches.

        Raises:
            AdmError: they cannot be dealt out evenly.
        """
        if parts % self.count:
            raise AdmError(
                f"{self.count} processes cannot share a step of {parts} micro-batches evenly: recipe.accumulate is to "
                f"be a multiple of {self.count}"
            )
        return Share(self.rank, self.count, parts)

    def check(self, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        """Stop where what trains cannot be trained by several.

        Raises:
            AdmError: gradients are kept apart by groups.
        """
        if self.count > 1 and any(isinstance(optimizer, GroupedSGD) for optimizer in optimizers):
            raise AdmError("a method that keeps groups of gradients apart is trained by one process only")

    def whole(self, mask: Tensor | None) -> Tensor | None:
        """The mask [B, H, W] of a whole batch, of which each process has its share."""
        if mask is None or self.count == 1:
            return mask
        own = mask.to(torch.uint8)
        parts = [torch.empty_like(own) for _ in range(self.count)]
        with _together():
            dist.all_gather(parts, own)
        return torch.cat(parts).bool()

    @contextmanager
    def in_order(self, distiller: nn.Module) -> Iterator[None]:
        """Let running statistics end as if one process had taken in all micro-batches of the step, one by one.

        With momentum m, k updates by a process keep (1 - m)^k of what was there and add the rest; what each adds is
        then kept to (1 - m)^k by every process behind it.
        """
        layers = _with_statistics(distiller) if self.count > 1 else []
        if not layers:
            yield
            return
        values = [t for n in layers for t in (n.running_mean, n.running_var) if t is not None]
        seen = [n.num_batches_tracked for n in layers if n.num_batches_tracked is not None]
        before, counted = _flatten_dense_tensors(values).double(), torch.stack(seen)
        yield
        updates = torch.stack(seen) - counted
        each = zip(layers, updates.double().unbind(), strict=True)
        kept = torch.cat([((1 - n.momentum) ** own).expand(2 * n.num_features) for n, own in each])  # type: ignore[operator]
        result = (_flatten_dense_tensors(values) - kept * before) * kept ** (self.count - 1 - self.rank)
        if self.is_first:
            result += kept**self.count * before
        with _together():
            dist.all_reduce(result)
        torch._foreach_copy_(values, list(_unflatten_dense_tensors(result.to(values[0].dtype), values)))
        torch._foreach_add_(seen, list((updates * (self.count - 1)).unbind()))

    def unite(
        self, outcomes: list[Outcome], optimizers: Sequence[torch.optim.Optimizer], stop: bool
    ) -> tuple[list[Outcome], bool]:
        """Add up the gradients of all processes, after the backward passes of a step.

        Args:
            outcomes: of this process's micro-batches.
            optimizers: of the run.
            stop: whether this process was asked to stop.

        Returns:
            The terms and logs of the micro-batches of all, in order, and whether any process was asked to stop.
        """
        if self.count == 1:
            return outcomes, stop
        parameters = [p for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]]
        moving = bytes(p.grad is not None for p in parameters)
        told: list[Any] = [None] * self.count
        mine = _Told([tuple(o.terms) for o in outcomes], [tuple(o.log) for o in outcomes], moving, stop)
        with _together():
            dist.all_gather_object(told, mine)
            self._add_up([p for p, *any_of in zip(parameters, *(t.moving for t in told), strict=True) if any(any_of)])
            values = self._gathered(outcomes, told)
        return values, any(t.stop for t in told)

    def _add_up(self, parameters: Sequence[Tensor]) -> None:
        """The gradients of parameters, those that some process has; all are of one dtype."""
        for p in parameters:
            if p.grad is None:
                p.grad = torch.zeros_like(p)
        gradients = [p.grad for p in parameters if p.grad is not None]
        if gradients:
            flat = _flatten_dense_tensors(gradients)
            dist.all_reduce(flat)
            torch._foreach_copy_(gradients, list(_unflatten_dense_tensors(flat, gradients)))

    def _gathered(self, outcomes: Sequence[Outcome], told: Sequence[_Told]) -> list[Outcome]:
        """The outcomes of all processes, in order; totals and groups are not told."""
        sizes = [sum(map(len, [*t.terms, *t.logs])) for t in told]
        own = torch.stack([value.float() for o in outcomes for value in (*o.terms.values(), *o.log.values())])
        padded = torch.cat([own, own.new_zeros(max(sizes) - len(own))])
        parts = [torch.empty_like(padded) for _ in told]
        dist.all_gather(parts, padded)
        found = []
        for process, values in zip(told, parts, strict=True):
            scalars = iter(values.unbind())
            for terms, logs in zip(process.terms, process.logs, strict=True):
                of_terms = {name: next(scalars) for name in terms}
                found.append(Outcome(own.new_zeros(()), of_terms, {name: next(scalars) for name in logs}))
        return found

    def look(self, distiller: Distiller) -> None:
        """Do what :meth:`check_alike` does after the first step, and then now and again; called after every step."""
        self._steps += 1
        if self._steps % _CHECK_EVERY == 1:
            self.check_alike(distiller)

    def check_alike(self, distiller: Distiller) -> None:
        """Stop where processes do not hold the same tensors.

        Raises:
            AdmError: some differ; those of a method's parts do where it keeps what it has seen of the examples.
        """
        if self.count == 1:
            return
        named = {name: t for name, t in (*distiller.named_parameters(), *distiller.named_buffers()) if t.numel()}
        sums = torch.stack([t.detach().double().sum() for t in named.values()])
        least, most = sums.clone(), sums.clone()
        with _together():
            dist.all_reduce(least, dist.ReduceOp.MIN)
            dist.all_reduce(most, dist.ReduceOp.MAX)
        unlike = [name for name, same in zip(named, (least == most).tolist(), strict=True) if not same]
        if unlike:
            some = ", ".join(unlike[:_NAMED]) + (", ..." if len(unlike) > _NAMED else "")
            name = distiller.method.card.name
            raise AdmError(
                f"method '{name}' keeps state that follows from the examples each process has seen ({some}), so "
                "several cannot train a cell together by it; train it by one"
            )


def join(file: str, rank: int, count: int, device: torch.device) -> Ranks:
    """Meet the other processes at a file that none of them has met at before; waits for all.

    Raises:
        Parted: they do not come.
    """
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    with _together():
        dist.init_process_group(backend, init_method=f"file://{file}", rank=rank, world_size=count)
    return Ranks(rank, count)


@contextmanager
def _together() -> Iterator[None]:
    """What torch raises where another process has ended, told apart from this process's own faults."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise Parted(f"another process that trains this cell has ended: {error}") from error


def _with_statistics(distiller: nn.Module) -> list[_BatchNorm]:
    """The layers that keep running statistics.

    Raises:
        AdmError: some keep the plain mean of all batches, which depends on how many there were before.
    """
    layers = [n for n in distiller.modules() if isinstance(n, _BatchNorm) and n.running_mean is not None]
    if any(n.momentum is None for n in layers):
        raise AdmError("batch normalisation without momentum is trained by one process only")
    return layers
