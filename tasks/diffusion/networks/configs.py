"""From a network's name to the config of the ``UNet2DModel`` that is built. Loads neither torch nor Diffusers."""

from __future__ import annotations

import ast
import functools
import importlib.util
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from adm_core.errors import AdmError, unknown
from adm_core.network_definition import NetworkDefinition
from adm_core.yaml_file import read_mapping
from tasks.diffusion.networks import folders

Config = dict[str, Any]
"""Keyword arguments of ``UNet2DModel``, all of them."""
REMOVAL = "block_removal"
"""Our own key beside those of ``UNet2DModel``."""
REMOVALS = ("base", "small", "tiny")
_LIST = Path(__file__).with_name("networks.yaml")
_BENCHMARKS = ("sample_size", "in_channels", "out_channels", "num_class_embeds")
"""What an own network takes from the benchmark."""


@functools.cache
def entries() -> dict[str, dict[str, Any]]:
    """Network name to its entry, with ``family`` and ``source`` from its group, and ``base`` and ``overrides`` set."""
    families: dict[str, dict[str, Any]] = read_mapping(_LIST)
    return {
        name: {"family": family, "source": group["source"], "base": None} | own
        for family, group in families.items()
        for name, own in group["networks"].items()
    }


@functools.cache
def defaults() -> Config:
    """What Diffusers takes for each key of a ``UNet2DModel``'s config that is not given; read from its source.

    Raises:
        AdmError: Diffusers is not installed.
    """
    spec = importlib.util.find_spec("diffusers")
    if spec is None or spec.origin is None:
        raise AdmError("diffusion needs Diffusers, which is not installed; make setup installs it")
    source = Path(spec.origin).parent / "models" / "unets" / "unet_2d.py"
    functions = {
        function.name: function
        for kind in ast.parse(source.read_text(encoding="utf-8")).body
        if isinstance(kind, ast.ClassDef) and kind.name == "UNet2DModel"
        for function in kind.body
        if isinstance(function, ast.FunctionDef)
    }
    given = functions["__init__"].args
    keys = [argument.arg for argument in given.args[1:]]
    return {key: ast.literal_eval(value) for key, value in zip(keys, given.defaults, strict=True)}


def resolve(name: str, definition: NetworkDefinition | None = None) -> Config:
    """The config as its author wrote it, with a suite's overrides.

    Args:
        name: a name of the catalogue or ``diffusers/OWNER/NAME``; what it means is told by ``definition`` where there
            is one.
        definition: a suite's own definition.

    Raises:
        AdmError: no such name or file, a file that is no config of a ``UNet2DModel``, or overrides that do not fit.
    """
    if definition is None:
        return _named(name)
    if definition.file is None:
        return _changed(_named(definition.base), definition.overrides)
    return _changed(_read(definition.file), definition.overrides)


def check_overrides(overrides: Mapping[str, Any]) -> None:
    """Stop at a key that neither ``UNet2DModel`` nor we have.

    Raises:
        AdmError: names it and the nearest ones.
    """
    _check_keys(overrides, (*defaults(), REMOVAL), "overrides")
    if overrides.get(REMOVAL, "base") not in REMOVALS:
        raise unknown("block removal", str(overrides[REMOVAL]), REMOVALS, where=f"overrides.{REMOVAL}")


def without_blocks(config: Config, removal: str) -> Config:
    """The config of a student that lacks blocks of its teacher, as BK-SDM removes them (arXiv:2305.15798, section 3.1).

    Each step goes further than the one before: ``base`` has one layer less in every block on the way down and up,
    ``small`` has no middle block either, ``tiny`` has no innermost level either. Widths stay as they are.

    Raises:
        AdmError: unknown step, or there is no layer or no level left to remove.
    """
    step, where = REMOVALS.index(removal), f"overrides.{REMOVAL}: {removal}"
    layers, levels = config["layers_per_block"], len(config["block_out_channels"])
    if layers < 2:
        raise AdmError(f"{where}: takes a layer out of every block, and the blocks have one")
    changed = config | {"layers_per_block": layers - 1}
    if step >= 1:
        changed["mid_block_type"] = None
    if step >= 2:
        if levels < 2:
            raise AdmError(f"{where}: takes the innermost level out, and there is one")
        changed["block_out_channels"] = config["block_out_channels"][:-1]
        changed["down_block_types"] = config["down_block_types"][:-1]
        changed["up_block_types"] = config["up_block_types"][1:]
    return changed


def adapted(config: Config, name: str, channels: int, image_size: int, classes: int | None) -> Config:
    """The config for a benchmark: what it leaves open is set, what it states must agree.

    Args:
        config: from :func:`resolve`.
        name: of the network, for messages.
        channels: of the benchmark's images.
        image_size: their height and width.
        classes: that the benchmark tells the networks; None: none.

    Raises:
        AdmError: made for other images or classes, or for noise of another kind than discrete timesteps.
    """
    where, size = f"network '{name}'", config["sample_size"]
    taken, predicted = (config[key] or channels for key in ("in_channels", "out_channels"))
    if (taken, predicted) != (channels, channels):
        raise AdmError(
            f"{where} takes {taken} channels and predicts {predicted}, the benchmark's images have {channels}; "
            "override in_channels and out_channels to train it for them"
        )
    if size is not None and _pair(size) != (image_size, image_size):
        raise AdmError(
            f"{where} is made for images of {'×'.join(map(str, _pair(size)))}, the benchmark's are of "
            f"{image_size}×{image_size}; override sample_size to use it for them"
        )
    if config["num_class_embeds"] not in (None, classes) or config["class_embed_type"] is not None:
        told = f"{config['num_class_embeds']} classes" if config["num_class_embeds"] else "a class of its own kind"
        raise AdmError(
            f"{where} is told {told} (num_class_embeds, class_embed_type), the benchmark's networks "
            f"{f'{classes} classes' if classes else 'none'}"
        )
    if config["time_embedding_type"] != "positional":
        raise AdmError(
            f"{where} has time_embedding_type '{config['time_embedding_type']}'; here networks are told discrete "
            "timesteps, by 'positional'"
        )
    finest = 2 ** (len(config["block_out_channels"]) - 1)
    if image_size % finest:
        raise AdmError(
            f"{where} halves the image {len(config['block_out_channels']) - 1} times, which images of {image_size} "
            f"pixels do not allow: their side must be a multiple of {finest}"
        )
    benchmarks = {"sample_size": image_size, "in_channels": channels, "out_channels": channels}
    return config | benchmarks | {"num_class_embeds": classes}


def taps(config: Config) -> dict[str, str]:
    """Tap to module path in a ``Denoiser``; :mod:`tasks.diffusion.networks` says what they are."""
    levels = len(config["block_out_channels"])
    down = {f"down{n}": f"unet.down_blocks.{n - 1}" for n in range(1, levels + 1)}
    up = {f"up{n}": f"unet.up_blocks.{levels - n}" for n in range(levels, 0, -1)}
    middle = {} if config["mid_block_type"] is None else {"mid": "unet.mid_block"}
    attention = {f"{tap}.attention": f"{path}.attentions.0" for tap, path in middle.items() if config["add_attention"]}
    layers = config["layers_per_block"]
    for blocks, types, last in ((down, config["down_block_types"], layers - 1), (up, config["up_block_types"], layers)):
        for (tap, path), kind in zip(blocks.items(), types, strict=True):
            if "Attn" in kind:  # of its layers, AttnSkipUpBlock2D has an attention after the last alone
                place = 0 if "AttnSkipUp" in kind else last
                attention[f"{tap}.attention"] = f"{path}.attentions.{place}"
    return {**down, **middle, **up, **attention, "last": up["up1"], "noise": "unet.conv_out"}


def _named(name: str) -> Config:
    if name.startswith(folders.HUB):
        return _read(folders.hub_config(name))
    known = entries()
    if name not in known:
        raise unknown("network", name, known)
    base = known[name]["base"]
    return _changed(_named(base) if base else defaults() | dict.fromkeys(_BENCHMARKS), known[name]["overrides"])


def _read(file: Path) -> Config:
    given = folders.read(file)
    _check_keys(given, defaults(), file.name)
    return _changed(defaults(), given)


def _changed(config: Config, overrides: Mapping[str, Any]) -> Config:
    check_overrides(overrides)
    changed = config | {key: value for key, value in overrides.items() if key != REMOVAL}
    levels = [changed[key] for key in ("block_out_channels", "down_block_types", "up_block_types")]
    if not all(isinstance(each, list | tuple) for each in levels) or len({len(each) for each in levels}) != 1:
        raise AdmError(
            "block_out_channels, down_block_types and up_block_types must be lists with an entry per level, not "
            + ", ".join(map(str, levels))
        )
    if not isinstance(changed["layers_per_block"], int):
        raise AdmError(f"layers_per_block must be a whole number, not {changed['layers_per_block']}")
    return without_blocks(changed, overrides[REMOVAL]) if REMOVAL in overrides else changed


def _check_keys(given: Iterable[str], known: Iterable[str], where: str) -> None:
    known = tuple(known)
    for key in given:
        if key not in known:
            raise unknown("key", key, known, where=where)


def _pair(size: Any) -> tuple[Any, ...]:
    return tuple(size) if isinstance(size, list | tuple) else (size, size)
