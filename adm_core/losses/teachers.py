"""Teachers that change or are several: distances of any kind of prediction, and what two teachers agree on."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from adm_core.card import PredictionKind
from adm_core.losses.logits import kl_divergence, masked_cross_entropy


def agreed(one: Tensor, two: Tensor, least: float) -> Tensor:
    """Where two teachers name the same class and the first is surer of it than ``least``: bool [B] or [B, H, W].

    Args:
        one: logits [B, K] or [B, K, H, W].
        two: logits of the same shape.
        least: a probability in [0, 1].
    """
    confidence, named = one.softmax(1).max(1)
    return (named == two.argmax(1)) & (confidence > least)


def consensus(one: Tensor, two: Tensor, least: float) -> tuple[Tensor, Tensor]:
    """Probabilities of two teachers, weighted by how sure each is, and where both name one class surer than ``least``.

    ``(c_1 p_1 + c_2 p_2) / (c_1 + c_2)``, c the largest probability, as PETS fuses boxes (arXiv:2311.13930).

    Args:
        one: logits [B, K] or [B, K, H, W].
        two: logits of the same shape.
        least: a probability in [0, 1].

    Returns:
        Of the shape of the logits, and bool [B] or [B, H, W].
    """
    p_1, p_2 = one.softmax(1), two.softmax(1)
    sure_1, sure_2 = (p.amax(1, keepdim=True) for p in (p_1, p_2))
    fused = (sure_1 * p_1 + sure_2 * p_2) / (sure_1 + sure_2)
    return fused, agreed(one, two, least) & agreed(two, one, least)


def kl_of(own: Tensor, target: Tensor) -> Tensor:
    """``KL(target || softmax(own))`` of probabilities that are no network's logits, [B] or [B, H, W].

    Args:
        own: logits [B, K] or [B, K, H, W].
        target: probabilities of the same shape.
    """
    negative_entropy: Tensor = torch.special.xlogy(target, target).sum(1)
    return negative_entropy - (target * own.log_softmax(1)).sum(1)


def min_norm_share(one: Tensor, two: Tensor) -> Tensor:
    """The a in [0, 1] for which ``a g_1 + (1 - a) g_2`` is shortest: ``⟨g_2 - g_1, g_2⟩ / |g_1 - g_2|²``, clipped.

    The step that such a mixture of two losses' gradients gives hurts neither loss (Désidéri 2012; Sener & Koltun,
    arXiv:1810.04650). Equal gradients give 0.

    Args:
        one: g_1, of any shape.
        two: g_2, of the same shape.
    """
    difference = two - one
    return ((difference * two).sum() / difference.pow(2).sum().clamp_min(torch.finfo(one.dtype).tiny)).clamp(0, 1)


def distance(own: Tensor, target: Tensor, kind: PredictionKind, temperature: float, mask: Tensor | None) -> Tensor:
    """How far a prediction is from a teacher's: ``T² KL(target || own)``, of denoisers the mean squared difference.

    Args:
        own: what is trained, of any kind of prediction.
        target: of the same kind and shape; detach it to make it a target.
        kind: which it is.
        temperature: T > 0.
        mask: bool [B, ., .] of any size, true where a position counts; None: everywhere.
    """
    if kind == "denoiser":
        return (own - target).pow(2).mean()
    return kl_divergence(own, target, temperature, mask)


def error(prediction: Tensor, target: Tensor, kind: PredictionKind, mask: Tensor | None) -> Tensor:
    """The error of a prediction that no network's view holds: cross-entropy, of denoisers the mean squared error.

    Args:
        prediction: of any kind.
        target: class indices [B] or [B, ., .] of any size, or what denoises.
        kind: which it is.
        mask: bool [B, ., .] of any size, true where a position counts; None: everywhere.
    """
    if kind == "denoiser":
        return (prediction - target).pow(2).mean()
    return masked_cross_entropy(prediction, target, mask)


def retrieved(queries: Tensor, index: Tensor, k: int, classes: int, vectors: Tensor, labels: Tensor) -> Tensor:
    """Classes of the k examples nearest to each query by cosine, weighted by ``softmax(cosine / 0.07)``: [B, K].

    An example is not its own neighbour, nor is one of label -1 anybody's.

    Args:
        queries: [B, C], of length one.
        index: which of the N examples each query is, int64 [B].
        k: how many, fewer than N.
        classes: K.
        vectors: [N, C], of length one.
        labels: int64 [N]; -1: not known.
    """
    own = torch.arange(len(vectors), device=index.device) == index[:, None]
    cosine = (queries @ vectors.T).masked_fill(own | (labels < 0), -torch.inf)
    near, chosen = cosine.topk(k, dim=1)
    weights = (near / 0.07).softmax(1)
    return torch.einsum("bk,bkc->bc", weights, F.one_hot(labels[chosen].clamp_min(0), classes).to(weights.dtype))


def borderline(logits: Tensor, target: Tensor, count: int) -> Tensor:
    """The examples of a batch that are wrong and least sure, ``count`` of them or all that are wrong: bool [B].

    Args:
        logits: [B, K].
        target: class indices [B].
        count: at most B.
    """
    confidence, named = logits.softmax(1).max(1)
    order = confidence.masked_fill(named == target, 2.0)  # above any probability
    return (order.argsort(stable=True).argsort() < count) & (named != target)


def moved_by_one(images: Tensor) -> Tensor:
    """Images moved by one pixel up, down, left and right, the edge repeated: [B, C, H, W] → [4, B, C, H, W]."""
    padded = F.pad(images, (1, 1, 1, 1), mode="replicate")
    rows, columns = images.shape[2:]
    corners = ((2, 1), (0, 1), (1, 2), (1, 0))
    return torch.stack([padded[:, :, y : y + rows, x : x + columns] for y, x in corners])
