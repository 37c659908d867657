"""What training computes, in floating-point operations: the cost of a method that no machine changes."""

from __future__ import annotations

import itertools

import torch
from torch.utils.flop_counter import FlopCounterMode

from adm_core.batch import Batch, Share
from adm_core.ranks import Ranks
from adm_core.train import Trainer


def training_flops(trainer: Trainer, batch: Batch) -> float:
    """Floating-point operations of a training step on a batch: all forward and backward passes.

    Convolutions, matrix products and attention count, two operations per multiply-add; what works element by element
    does not. Where a method has phases, it is their mean by share of training. The step is taken: the trainer is good
    for nothing else afterwards.

    Args:
        trainer: networks, method and recipe.
        batch: of the task's.
    """
    total = trainer.recipe.epochs * trainer.task.steps_per_epoch
    shares = [phase.share for phase in trainer.distiller.needs.phases] if trainer.distiller.active else []
    edges = [0.0, *itertools.accumulate(shares), 1.0]
    trainer.distiller.train()
    trainer.ranks, trainer.share = Ranks(), Share(parts=trainer.recipe.accumulate)  # others may have ended
    flops = 0.0
    for start, end in itertools.pairwise(edges):
        trainer.progress.step = min(int((start + end) / 2 * total), total - 1)
        # The counter sees what torch computes, not what compiled code does.
        with torch.compiler.set_stance("force_eager"), FlopCounterMode(display=False) as counter:
            trainer.step(batch)
        flops += (end - start) * counter.get_total_flops()
    return flops
