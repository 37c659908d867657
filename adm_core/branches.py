"""Branches: copies of the end of a network that share its beginning, without running the beginning again."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from adm_core.errors import Unsupported
from adm_core.losses.adversarial import reversed_gradient
from adm_core.taps import Network, check_fired, record, resolve, unwrap


class _Passed(nn.Module):
    """Stands where a part of the shared beginning was: hands its first input on."""

    def forward(self, x: Any, *_: Any, **__: Any) -> Any:
        """The input."""
        return x


class _Given(nn.Module):
    """Stands where the branch begins: gives the map that the student's own forward pass made."""

    value: Tensor | None = None

    def forward(self, *_: Any, **__: Any) -> Tensor:
        """The map."""
        assert self.value is not None
        return self.value


class Branch(nn.Module):
    """The end of a network of the student's architecture, begun from the output of one of the student's own modules.

    Whatever the network finishes before that place, or runs in training alone, is cut off: it is neither run nor
    trained nor counted. This works for any network whose beginning consists of modules that run once and before those
    of its end.

    Args:
        network: of the student's architecture, with weights of its own; it is cut in place.
        after: tap whose output the branch starts from.
        example: arguments of the forward for a few examples, to find the order in which modules run.

    Raises:
        Unsupported: the end needs more of the beginning than that output, or modules before it run again after it.
    """

    def __init__(self, network: Network, after: str, example: tuple[Tensor, ...]) -> None:
        super().__init__()
        root, place = unwrap(network.module), resolve(network, (after,))[after]
        if example[0].is_floating_point():  # Not zeros, on which much looks alike. Characters are none.
            noise = torch.randn(example[0].shape, generator=torch.Generator().manual_seed(0))
            example = (noise.to(example[0]), *example[1:])
        was_training = root.training
        root.eval()
        finished, given, whole = _run(network, root, after, example)
        end = finished[id(place)][0]
        if len(finished[id(place)]) > 1:
            raise Unsupported(f"network '{network.name}' runs '{after}' more than once, so it cannot branch there")
        before = {key for key, times in finished.items() if max(times) <= end}
        if any(min(times) < end < max(times) for times in finished.values()):
            raise Unsupported(f"network '{network.name}' runs parts of its beginning again after '{after}'")
        self._start = _Given()
        self.network = replace(network, module=root)
        self.own = {tap for tap, module in _tapped(network, root).items() if id(module) not in before}
        _cut(root, place, before, set(finished), self._start)
        self.module, self.after = root, after
        self._check(network.name, after, given, whole, example)
        root.train(was_training)
        if next(root.parameters(), None) is None:
            raise Unsupported(f"network '{network.name}' cannot branch after '{after}': nothing with weights follows")

    @torch.no_grad()
    def _check(self, name: str, after: str, given: Tensor, whole: Tensor, example: tuple[Tensor, ...]) -> None:
        """The end alone must give what the whole network gave: nothing of the beginning may reach it otherwise."""
        self.start_from(given)
        try:
            same = torch.allclose(self(*example), whole, rtol=1e-3, atol=1e-3 * float(whole.abs().max()))
        except Exception:  # what was cut off may be missed in any way
            same = False
        if not same:
            raise Unsupported(f"network '{name}' cannot branch after '{after}': the rest needs more than its output")

    def start_from(self, value: Tensor) -> None:
        """The map [B, C, H, W] from which the next forward pass begins."""
        self._start.value = value

    def whole(self, student: Network) -> Network:
        """The student's beginning and this end as a network by itself, whose weights and buffers are theirs, no copies.

        It can be evaluated wherever the student can, and loading a state into it changes both.
        """
        root = unwrap(student.module)
        joined = copy.deepcopy(root, {id(tensor): tensor for tensor in chain(root.parameters(), root.buffers())})
        for path, own in self.module.named_modules():
            if not isinstance(own, (_Passed, _Given)):
                place = joined.get_submodule(path)
                place._parameters.update(own._parameters)
                place._buffers.update(own._buffers)
        return replace(student, module=joined)

    def forward(self, *inputs: Tensor) -> Tensor:
        """The prediction; of the inputs only those that the end itself reads matter."""
        prediction: Tensor = self.module(*inputs)
        self._start.value = None
        return prediction


@contextmanager
def divided_gradient(network: Network, after: str, count: int) -> Iterator[None]:
    """Let the gradient that flows back through a tap's output be divided by ``count``; the output stays what it is.

    Enter it before :func:`adm_core.taps.record`, so that what is recorded there passes its gradient on likewise.
    """

    def divide(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        return reversed_gradient(output, -1 / count)

    handle = resolve(network, (after,))[after].register_forward_hook(divide)
    try:
        yield
    finally:
        handle.remove()


def _run(
    network: Network, root: nn.Module, after: str, example: tuple[Tensor, ...]
) -> tuple[dict[int, list[int]], Tensor, Tensor]:
    """The moments at which each module finishes in a forward pass, by its id; a tap's output, and the prediction."""
    finished: dict[int, list[int]] = {}
    clock = iter(range(1 << 30))

    def note(module: nn.Module, _inputs: Any, _output: Any) -> None:
        finished.setdefault(id(module), []).append(next(clock))

    # To listen to an auxiliary classifier would switch it on.
    silent = {id(module) for module in resolve(network, tuple(network.auxiliary)).values()}
    handles = [module.register_forward_hook(note) for module in root.modules() if id(module) not in silent]
    try:
        with torch.no_grad(), record(network, (after,)) as seen:
            prediction: Tensor = root(*example)
    finally:
        for handle in handles:
            handle.remove()
    check_fired(network, (after,), seen)
    return finished, seen[after], prediction


def _tapped(network: Network, root: nn.Module) -> dict[str, nn.Module]:
    return {tap: root.get_submodule(path) for tap, path in network.taps.items()}


def _cut(parent: nn.Module, place: nn.Module, before: set[int], runs: set[int], start: nn.Module) -> None:
    """Replace the place by what gives its output; the largest modules that finish before it, or do not run, by nothing.

    What runs in training alone, such as an auxiliary classifier, does not run in the example.
    """
    for name, child in list(parent.named_children()):
        if child is place:
            setattr(parent, name, start)
        elif id(child) in before or runs.isdisjoint(map(id, child.modules())):
            setattr(parent, name, _Passed())
        else:
            _cut(child, place, before, runs, start)
