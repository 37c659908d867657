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

from adm_core.errors import AdmError, unknown

_WRAPPERS = ("module", "_orig_mod")
HINT, ALL_STAGES = "hint", "all-stages"
"""Names of groups of taps, which each network resolves as the literature does."""


@dataclass(frozen=True)
class Network:
    """A trainable model together with the names of its places.

    The tap ``last`` always means the last stage, whatever its number. A group of taps has a name of its own: ``hint``
    (one map) and ``all-stages``, whose members are ``all-stages.1``, ``all-stages.2``, ...

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
    """

    name: str
    module: nn.Module
    taps: Mapping[str, str] = field(default_factory=dict)
    head: str | None = None
    auxiliary: Mapping[str, float] = field(default_factory=dict)
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    normalisation: Mapping[str, str] = field(default_factory=dict)

    @property
    def stages(self) -> list[str]:
        """The taps ``stage1`` to ``stageN`` that there are, in order."""
        numbered = [tap for tap in self.taps if tap.startswith("stage") and tap.removeprefix("stage").isdigit()]
        return sorted(numbered, key=lambda tap: int(tap.removeprefix("stage")))

    def expand(self, taps: Sequence[str]) -> tuple[str, ...]:
        """The taps with every group replaced by its members, ``all-stages`` by ``all-stages.1`` and so on."""
        expanded: list[str] = []
        for tap in taps:
            members = self._group(tap) if tap == ALL_STAGES else ()
            expanded += [f"{tap}.{number}" for number in range(1, len(members) + 1)] or [tap]
        return tuple(expanded)

    def _group(self, name: str) -> tuple[str, ...]:
        stages = tuple(self.stages)
        return self.groups.get(name, stages if name == ALL_STAGES else stages[1:2])

    def path(self, tap: str) -> str:
        """The module path behind a tap name.

        Raises:
            AdmError: the network has no such tap; nearest names are given.
        """
        name, group = tap, tap.rpartition(".")[0] if tap.startswith(f"{ALL_STAGES}.") else tap
        if tap == "last" and self.stages:
            name = self.stages[-1]
        elif group in (HINT, ALL_STAGES) and tap not in self.taps:
            number = tap.rpartition(".")[2]
            place = int(number) - 1 if number.isdigit() else 0
            name = next(iter(self._group(group)[place : place + 1]), tap)
        if name not in self.taps:
            raise unknown("tap", tap, self.taps, where=f"network '{self.name}'")
        return self.taps[name]

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
