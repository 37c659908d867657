"""Classifiers of torchvision and timm by name, untrained, with taps that are found rather than listed.

Stages come from timm's own ``feature_info`` where it names modules that give maps, else from one traced forward
pass (:mod:`tasks.classification.networks.anatomy`). A network without maps, such as a vision transformer, has no
stage taps. Nothing is ever downloaded.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import nn

from adm_core.errors import AdmError, unknown
from adm_core.taps import Network
from tasks.classification.networks import anatomy

_PROBE_SIZE = 224


@dataclass(frozen=True)
class _Built:
    """A library's model and the image size with which it can be tried."""

    model: nn.Module
    probe_size: int


def build(name: str, num_classes: int, image_size: int | None = None) -> Network:
    """A library's classifier with fresh weights and no activation in place.

    Taps are those of ``stage1`` … ``stage4`` (deepest last), ``penultimate`` and ``logits`` that a module's output
    shows. ``penultimate`` is whatever the classifier reads, which in some networks of torchvision is only to be had
    after dropout. The network's ``head`` is set where it reads the spatial mean of the last stage.

    Args:
        name: ``torchvision/NAME``, ``timm/NAME``, or ``timm/NAME.TAG`` as timm tells the weights of one network apart.
        num_classes: size of the prediction.
        image_size: height and width of the images, for networks that are made for one size.

    Raises:
        AdmError: the library has no such network (its nearest names are given), or it cannot be built for this
            number of classes and image size.
    """
    library, _, own_name = name.partition("/")
    maker = _from_timm if library == "timm" else _from_torchvision
    try:
        built = maker(own_name, num_classes, image_size)
        _leave_inputs_alone(built.model)
        seen = _look(built)
        if _flatten_pool(built.model, seen):
            seen = _look(built)
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        size = f" and images of {image_size}x{image_size} pixels" if image_size else ""
        reason = str(error) or type(error).__name__
        raise AdmError(f"network '{name}' cannot be built for {num_classes} classes{size}: {reason}") from error
    prediction = seen.prediction
    if not isinstance(prediction, torch.Tensor) or prediction.shape != (1, num_classes):
        raise AdmError(f"network '{name}' is no classifier: it does not give {num_classes} scores for an image")
    return _described(name, built.model, seen)


def _from_torchvision(name: str, num_classes: int, image_size: int | None) -> _Built:
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        raise unknown("network", f"torchvision/{name}", (f"torchvision/{other}" for other in known))
    options: dict[str, int] = {}
    if name in ("googlenet", "inception_v3"):
        # Auxiliary classifiers would make the training-mode output a tuple.
        options = {"aux_logits": False, "init_weights": True}
    if name.startswith("vit_") and image_size:
        options = {"image_size": image_size}
    model = models.get_model(name, weights=None, num_classes=num_classes, **options)
    return _Built(model, int(options.get("image_size", _PROBE_SIZE)))


def _from_timm(name: str, num_classes: int, image_size: int | None) -> _Built:
    import timm
    from timm.models import get_arch_pretrained_cfgs

    known, (architecture, _, tag) = timm.list_models(), name.partition(".")
    if architecture not in known:
        raise unknown("network", f"timm/{name}", (f"timm/{other}" for other in known))
    tagged = get_arch_pretrained_cfgs(architecture)
    if tag and name not in tagged:
        raise unknown("network", f"timm/{name}", (f"timm/{other}" for other in tagged))
    about = timm.get_pretrained_cfg(name)
    native = about.input_size[-1] if about else _PROBE_SIZE
    if about is None or not about.fixed_input_size:
        return _Built(timm.create_model(name, pretrained=False, num_classes=num_classes), min(native, _PROBE_SIZE))
    size = image_size or native
    return _Built(timm.create_model(name, pretrained=False, num_classes=num_classes, img_size=size), size)


def _leave_inputs_alone(model: nn.Module) -> None:
    """Switch in-place activations off: they would overwrite maps that a tap recorded."""
    for module in model.modules():
        if getattr(module, "inplace", False) is True:
            setattr(module, "inplace", False)  # noqa: B010, as the type of a module's attributes is not known


def _look(built: _Built) -> anatomy.Trace:
    """One forward pass on noise of its own generator, so that building does not disturb the global one."""
    noise = torch.randn(1, 3, built.probe_size, built.probe_size, generator=torch.Generator().manual_seed(0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return anatomy.trace(built.model, noise)


def _flatten_pool(model: nn.Module, seen: anatomy.Trace) -> bool:
    """Let a pooling layer that gives [B, C, 1, 1] give the vector [B, C], if no other module does.

    The network makes that vector anyway, between its modules. The layer holds no parameters, so the names in the
    network's state stay as the library has them.

    Returns:
        Whether the model was changed.
    """
    head = seen.head()
    path = anatomy.unflattened_pool(seen, head) if head and not anatomy.vector_read_by(seen, head) else None
    if path:
        model.set_submodule(path, nn.Sequential(model.get_submodule(path), nn.Flatten()))
    return bool(path)


def _described(name: str, model: nn.Module, seen: anatomy.Trace) -> Network:
    """The network with all taps that the trace shows."""
    head = seen.head()
    stages = _named_stages(model, seen) or anatomy.stages(seen)
    if head is not None and stages:
        stages[-1] = next(_pooled(seen, head, [stages[-1], *anatomy.stages(seen)[-1:]]), stages[-1])
    taps = {f"stage{number}": path for number, path in enumerate(stages, start=1)}
    vector = anatomy.vector_read_by(seen, head) if head else None
    logits = head.path if head else seen.maker(seen.prediction)
    taps |= {tap: path for tap, path in (("penultimate", vector), ("logits", logits)) if path}
    reads_map = head is not None and bool(stages) and anatomy.reads_mean_of(head, seen.output(stages[-1]))
    return Network(name=name, module=model, taps=taps, head=head.path if head and reads_map else None)


def _pooled(seen: anatomy.Trace, head: anatomy.Call, paths: Iterable[str]) -> Iterator[str]:
    """Those paths whose map's spatial mean is what the classifier reads."""
    return (path for path in paths if anatomy.reads_mean_of(head, seen.output(path)))


def _named_stages(model: nn.Module, seen: anatomy.Trace) -> list[str]:
    """The deepest modules that timm's ``feature_info`` names and that give a map [B, C, H, W], if there are any."""
    told = getattr(model, "feature_info", None)
    paths = []
    for place in told if isinstance(told, list) else []:
        given = seen.output(place["module"])
        if given is not None and given.ndim == 4 and given.shape[1] == place["num_chs"]:
            paths.append(place["module"])
    return paths[-anatomy.MOST_STAGES :]
