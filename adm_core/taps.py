"""Semantic names for places in a network, and reading the tensors that appear there.

A *tap* (``stage1``, ``penultimate``, ``logits``) is the path of a module whose output is wanted. Hooks live only
inside :func:`record`, so a network that nobody listens to carries none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from adm_core.card import ALL_STAGES, HINT, PREACTS, SEVERAL, Sampler
from adm_core.errors import AdmError, unknown

_WRAPPERS = ("module", "_orig_mod")


@dataclass(frozen=True)
class Network:
    """A trainable model together with the names of its places.

    The tap ``last`` always means the last stage, whatever its number. A group of taps has a name of its own: ``hint``
    (one map), ``all-stages``, whose members are ``all-stages.1``, ``all-stages.2``, ..., and ``all-stages.preact``,
    the same stages before their last activation.

    Attributes:
        name: the name under which it was built, e.g. ``"resnet20"``.
        module: the model; its forward maps an input batch to the prediction.
        taps: tap name to the path of the module whose output is the tapped tensor.
        head: path of the final linear classifier that maps the pooled vector to logits, if there is one.
        auxiliary: taps whose outputs, in training, are further predictions (auxiliary heads, earlier stages of a
            cascade), each with the weight by which the task's loss of it is added.
        groups: ``hint`` and ``all-stages``, where the literature's choice for this network is not every stage and the
            second of them.
        normalisation: tap ``stageN.preact`` to the path of the batch normalisation that decides its mean and spread.
        sampler: how images are made of it, where it is a denoiser.
    """

    name: str
    module: nn.Module
    taps: Mapping[str, str] = field(default_factory=dict)
    head: str | None = None
    auxiliary: Mapping[str, float] = field(default_factory=dict)
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    normalisation: Mapping[str, str] = field(default_factory=dict)
    sampler: Sampler = "ddim"

    @property
    def stages(self) -> list[str]:
        """The taps ``stage1`` to ``stageN`` that there are, in order."""
        numbered = [tap for tap in self.taps if tap.startswith("stage") and tap.removeprefix("stage").isdigit()]
        return sorted(numbered, key=lambda tap: int(tap.removeprefix("stage")))

    def expand(self, taps: Sequence[str]) -> tuple[str, ...]:
        """The taps with every group replaced by its members, ``all-stages`` by ``all-stages.1`` and so on."""
        expanded: list[str] = []
        for tap in taps:
            members = self._group(tap) if tap in SEVERAL else ()
            expanded += [f"{tap}.{number}" for number in range(1, len(members) + 1)] or [tap]
        return tuple(expanded)

    def _group(self, name: str) -> tuple[str, ...]:
        stages = tuple(self.stages)
        if name == PREACTS:
            return tuple(f"{stage.partition('.')[0]}.preact" for stage in self._group(ALL_STAGES))
        return self.groups.get(name, stages if name == ALL_STAGES else stages[1:2])

    def own_tap(self, tap: str) -> str:
        """The tap of this network that ``last`` or a member of a group stands for; any other tap itself."""
        if tap in self.taps:
            return tap
        if tap == "last" and self.stages:
            return self.stages[-1]
        if tap == HINT:
            return next(iter(self._group(HINT)), tap)
        group = tap.rpartition(".")[0]
        members = self._group(group) if group in SEVERAL else ()
        numbered = {f"{group}.{number}": member for number, member in enumerate(members, start=1)}
        return numbered.get(tap, tap)

    def path(self, tap: str) -> str:
        """The module path behind a tap name.

        Raises:
            AdmError: the network has no such tap; nearest names are given.
        """
        own = self.own_tap(tap)
        if own not in self.taps:
            raise unknown("tap", own, self.taps, where=f"network '{self.name}'")
        return self.taps[own]

    def classifier(self) -> nn.Linear | None:
        """The final linear layer, or None where the network has none."""
        module = unwrap(self.module).get_submodule(self.head) if self.head else None
        return module if isinstance(module, nn.Linear) else None


def unwrap(module: nn.Module) -> nn.Module:
    """The model itself, freed of the wrappers that DistributedDataParallel and ``torch.compile`` put around it."""
    while True:
        inner = next((getattr(module, w) for w in _WRAPPERS if isinstance(getattr(module, w, None), nn.Module)), None)
        if inner is None:
            return module
        module = inner


def resolve(network: Network, taps: Sequence[str]) -> dict[str, nn.Module]:
    """The modules behind tap names.

    Raises:
        AdmError: the network has no such tap (nearest names are given), or the tap points at no module.
    """
    root, found = unwrap(network.module), {}
    for tap in taps:
        path = network.path(tap)
        try:
            found[tap] = root.get_submodule(path)
        except AttributeError:
            raise AdmError(f"network '{network.name}': tap '{tap}' points at '{path}', which is not there") from None
    return found


def normalisations(network: Network, taps: Sequence[str]) -> dict[str, tuple[Tensor, Tensor]]:
    """Weight and bias [C] of the batch normalisations behind those of some taps that lie before an activation."""
    paths = {tap: network.normalisation.get(network.own_tap(tap)) for tap in taps}
    found = {tap: unwrap(network.module).get_submodule(path) for tap, path in paths.items() if path}
    return {tap: (norm.weight.detach(), norm.bias.detach()) for tap, norm in found.items()}  # type: ignore[operator]


@contextmanager
def record(network: Network, taps: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Collect the outputs of the tapped modules during the forward passes made inside the ``with`` block.

    Yields:
        A dictionary that fills as modules fire: tap to output tensor. A module that returns a tuple
        contributes its first element.
    """
    seen: dict[str, Tensor] = {}

    def listener(tap: str):  # type: ignore[no-untyped-def]
        def hook(_module: nn.Module, _inputs: object, output: object) -> None:
            tensor = output[0] if isinstance(output, (tuple, list)) else output
            if not isinstance(tensor, Tensor):
                raise AdmError(f"network '{network.name}': tap '{tap}' gave {type(tensor).__name__}, not a tensor")
            seen[tap] = tensor

        return hook

    handles = [module.register_forward_hook(listener(tap)) for tap, module in resolve(network, taps).items()]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def check_fired(network: Network, taps: Sequence[str], seen: Mapping[str, Tensor]) -> None:
    """Stop when a declared tap stayed silent: a loss on it would be zero without anybody noticing.

    Raises:
        AdmError: names the network and the taps that did not fire.
    """
    silent = [tap for tap in taps if tap not in seen]
    if silent:
        raise AdmError(f"network '{network.name}': tap {', '.join(silent)} never fired in the forward pass")


def probe(network: Network, taps: Sequence[str], example: tuple[Tensor, ...]) -> dict[str, tuple[int, ...]]:
    """Shapes that the prediction and the taps have for a few examples, batch size included.

    The model's mode and buffers are left as they were.

    Args:
        network: the network to try.
        taps: tap names to read.
        example: the arguments of the network's forward, [B, ...] each, on its device.

    Returns:
        ``{"prediction": shape, tap: shape, ...}``.
    """
    was_training = network.module.training
    network.module.eval()
    try:
        with torch.no_grad(), record(network, taps) as seen:
            prediction = network.module(*example)
    finally:
        network.module.train(was_training)
    check_fired(network, taps, seen)
    shapes = {"prediction": tuple(prediction.shape)} | {tap: tuple(seen[tap].shape) for tap in taps}
    classifier = network.classifier()
    return shapes if classifier is None else shapes | {"head": tuple(classifier.weight.shape)}
