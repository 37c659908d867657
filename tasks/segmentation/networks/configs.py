"""From a network's name to the MMSegmentation configuration that it is built from."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from adm_core.errors import AdmError, unknown
from tasks.segmentation import compat, networks

Config = dict[str, Any]
"""The ``model`` part of an MMSegmentation configuration."""
_SYNC = ("SyncBN", "SyncBatchNorm", "MMSyncBN")
_SEGMENTORS = ("EncoderDecoder", "CascadeEncoderDecoder")


def resolve(name: str, definition: Any = None) -> Config:
    """The configuration as its author wrote it, with a suite's overrides.

    Args:
        name: a name of the catalogue or ``mmseg/NAME``; what it means is told by ``definition`` where there is one.
        definition: a suite's own definition: ``base``, ``overrides``, ``file``.

    Raises:
        AdmError: no such name or file, or a file that is no configuration of a segmentation network.
    """
    compat.load()
    if definition is None:
        return _named(name)
    own = _read(definition.file) if definition.file else _named(definition.base)
    return _merged(own, definition.overrides, name)


def _named(name: str) -> Config:
    if name.startswith(networks.EXTERNAL):
        networks.check(name, "")
        return _read(networks.shipped()[name.removeprefix("mmseg/")])
    known = networks.entries()
    if name not in known:
        raise unknown("network", name, known)
    return _merged(_read(networks.configs_folder() / known[name]["base"]), known[name]["overrides"], name)


def _read(path: Path) -> Config:
    from mmengine.config import Config as File

    try:
        loaded = File.fromfile(path)
    except Exception as error:  # a configuration is Python code: it may fail in any way
        raise AdmError(f"configuration {path.name} cannot be read: {type(error).__name__}: {error}") from error
    model = loaded.get("model")
    if model is None:
        raise AdmError(f"configuration {path.name} has no 'model': it is not of a network")
    plain: Config = model.to_dict()
    return plain


def _merged(config: Config, overrides: dict[str, Any], name: str) -> Config:
    from mmengine.config import Config as File

    file = File({"model": config})
    try:
        file.merge_from_dict({"model": copy.deepcopy(overrides)})
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        raise AdmError(f"network '{name}': its overrides do not fit the configuration: {error}") from error
    merged: Config = file.model.to_dict()
    return merged


def adapted(config: Config, name: str, classes: int, pretrained: bool) -> Config:
    """The configuration for this benchmark: classes set, normalisation for one process, weights as asked for.

    Args:
        config: from :func:`resolve`.
        name: of the network, for messages.
        classes: of the benchmark.
        pretrained: keep the ImageNet weights that it names for its backbone.

    Raises:
        AdmError: it is no encoder-decoder, or is trained by more than cross-entropy on its predictions.
    """
    config = _unsynchronised(copy.deepcopy(config))
    if config.get("type") not in _SEGMENTORS:
        raise AdmError(
            f"network '{name}' is a {config.get('type')}; distillation here is for {' and '.join(_SEGMENTORS)}"
        )
    for key in ("decode_head", "auxiliary_head"):
        heads = config.get(key) or []
        for place, head in enumerate(heads if isinstance(heads, list) else [heads]):
            where = f"network '{name}': {key}{f'.{place}' if isinstance(heads, list) else ''}"
            _check_loss(head, where)
            head["num_classes"] = classes
            head.pop("out_channels", None)
    if not pretrained:
        _from_scratch(config)
    preprocessor = config.get("data_preprocessor") or {}
    config["data_preprocessor"] = {
        key: value for key, value in preprocessor.items() if key not in ("size", "size_divisor", "test_cfg")
    }
    config["test_cfg"], config["train_cfg"] = {"mode": "whole"}, {}
    return config


def _from_scratch(config: Config) -> None:
    """Take out what would fetch weights, in the network and in its parts."""
    for part in (config, *(value for value in config.values() if isinstance(value, dict))):
        if isinstance(part.get("init_cfg"), dict) and part["init_cfg"].get("type") == "Pretrained":
            part["init_cfg"] = None
        if "pretrained" in part:
            part["pretrained"] = None
        if part.get("type") == "TIMMBackbone":  # fetches unless told not to
            part["pretrained"] = False


def _check_loss(head: Config, where: str) -> None:
    """Stop at what the loop would leave out: it trains every prediction by plain cross-entropy."""
    loss = head.get("loss_decode", {"type": "CrossEntropyLoss"})
    several = isinstance(loss, list | tuple)
    plain = not several and loss.get("type") == "CrossEntropyLoss" and not loss.get("use_sigmoid")
    if not plain or loss.get("class_weight") or head.get("sampler"):
        used = [part.get("type") for part in loss] if several else loss.get("type")
        extra = ", class weights" if not several and loss.get("class_weight") else ""
        extra += ", a sampler" if head.get("sampler") else ""
        raise AdmError(
            f"{where} is trained by {used}{extra}, but methods are compared on plain per-pixel cross-entropy; override "
            "it with {loss_decode: {_delete_: true, type: CrossEntropyLoss, loss_weight: 1.0}, sampler: null}"
        )


def _unsynchronised(value: Any) -> Any:
    """The same with batch normalisation of one process: a cell trains in one."""
    if isinstance(value, dict):
        return {key: "BN" if key == "type" and item in _SYNC else _unsynchronised(item) for key, item in value.items()}
    return type(value)(_unsynchronised(item) for item in value) if isinstance(value, list | tuple) else value
