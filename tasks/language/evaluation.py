"""What trained networks are worth: bits per character and how often the next character is named right."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adm_core.task import ENSEMBLE, Scores, equals


class Evaluation(NamedTuple):
    """Scores by role and metric, and the characters that the teacher names, uint8 [N, T]; None where none was run."""

    scores: Scores
    teacher: Tensor | None


def evaluate(
    networks: Mapping[str, nn.Module], batches: Iterable[tuple[Tensor, Tensor]], teacher: Tensor | None = None
) -> Evaluation:
    """Metrics of each network and of the ensemble of equals, one pass over the text.

    ``bpc`` is the mean over characters of -log2 p, ``next_top1`` the share in percent whose most likely character is
    right. Beside a teacher the student also has ``agreement``, the share in percent on which both name the same.

    Args:
        networks: by role; they are put in evaluation mode.
        batches: from :func:`tasks.language.batches.evaluation_batches`.
        teacher: what a teacher names that was evaluated before and so is not among the networks.
    """
    together = [ENSEMBLE] if equals(networks) else []
    bits, named = dict.fromkeys((*networks, *together), 0.0), {role: list[Tensor]() for role in (*networks, *together)}
    targets = []
    for network in networks.values():
        network.eval()
    for characters, following in batches:
        for role, logs in _log_probabilities(networks, characters).items():
            bits[role] += float(F.nll_loss(logs, following, reduction="sum")) / math.log(2)
            named[role].append(logs.argmax(1)[:, 0].to(torch.uint8).cpu())
        targets.append(following[:, 0].cpu())
    truth, found = torch.cat(targets), {role: torch.cat(parts) for role, parts in named.items()}
    result: Scores = {
        role: {"bpc": bits[role] / truth.numel(), "next_top1": _share(found[role], truth)} for role in found
    }
    theirs = found.get("teacher", teacher)
    if theirs is not None:
        result["student"]["agreement"] = _share(found["student"], theirs)
    return Evaluation(result, found.get("teacher"))


def _log_probabilities(networks: Mapping[str, nn.Module], characters: Tensor) -> dict[str, Tensor]:
    """Natural logarithms float64 [B, K, 1, T] of each network, and of the mean of the softmax outputs of equals."""
    with torch.inference_mode():
        logs = {role: network(characters).double().log_softmax(1) for role, network in networks.items()}
    members = [logs[role] for role in equals(networks)]
    return logs | ({ENSEMBLE: torch.stack(members).logsumexp(0) - math.log(len(members))} if members else {})


def _share(a: Tensor, b: Tensor) -> float:
    return 100 * float((a == b).double().mean())
