"""Where Diffusers keeps the config and the weights of a U-Net: in a folder, in a pipeline's, or on the hub."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from adm_core.errors import AdmError
from tasks.datasets.source import is_hidden
from tasks.offer import NetworkFile

HUB = "diffusers/"
CONFIG, WEIGHTS = "config.json", "diffusion_pytorch_model.safetensors"
SUBFOLDER = "unet"
"""Where a pipeline keeps its U-Net."""


def repository(name: str, where: str = "") -> str:
    """``OWNER/NAME`` of ``diffusers/OWNER/NAME``.

    Raises:
        AdmError: it does not look like that.
    """
    found = name.removeprefix(HUB)
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", found):
        raise AdmError(
            f"{where + ': ' if where else ''}network '{name}': a repository on the Hugging Face hub is written "
            f"{HUB}OWNER/NAME, as in {HUB}google/ddpm-cifar10-32"
        )
    return found


def read(file: Path) -> dict[str, Any]:
    """What a config file says about a ``UNet2DModel``, without the marks that Diffusers leaves in it.

    Raises:
        AdmError: the file is no JSON, or the config of something else.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise AdmError(f"{file.name} cannot be read: {error}; a config file of Diffusers is JSON") from error
    if not isinstance(content, dict):
        raise AdmError(f"{file.name} holds a {type(content).__name__}, not the keys of a UNet2DModel's config")
    kind = str(content.get("_class_name", "UNet2DModel"))
    if kind.endswith("Pipeline"):
        raise AdmError(f"{file.name} is of class {kind}; give the pipeline's folder, or {SUBFOLDER}/{CONFIG} in it")
    if kind != "UNet2DModel":
        raise AdmError(f"{file.name} is of class {kind}; networks of this task are of Diffusers' UNet2DModel")
    return {key: value for key, value in content.items() if not key.startswith("_")}


def locate(place: str, wanted: NetworkFile) -> Path:
    """The file with a U-Net's config or weights, in a folder or, of ``diffusers/OWNER/NAME``, among the downloaded.

    Raises:
        AdmError: nothing is there, it is something else than a ``UNet2DModel``, or its weights are not one file.
    """
    if not place.startswith(HUB):
        config = _config_in(Path(place))
        return config if wanted == "config" else _weights_in(config.parent)
    name = repository(place)
    found = _config_on_hub(name, cached=True)
    if found is None:
        raise AdmError(f"{place}: {_fetch(name)}")
    read(found)
    try:
        return found if wanted == "config" else _weights_in(found.parent)
    except AdmError as error:
        raise AdmError(f"{place}: {error}; unless they are elsewhere in it: {_fetch(name)}") from error


def hub_config(name: str) -> Path:
    """The config file of ``diffusers/OWNER/NAME``, which is downloaded if it never was.

    What was downloaded comes first: it needs no network, and does not change between two cells.

    Raises:
        AdmError: there is no network to fetch it with, no such repository, or no U-Net in it.
    """
    found = _config_on_hub(repository(name), cached=True) or _config_on_hub(repository(name), cached=False)
    if found is None:
        raise AdmError(f"{name}: has neither {CONFIG} nor {SUBFOLDER}/{CONFIG}: it holds no U-Net of Diffusers")
    return found


def _config_in(folder: Path) -> Path:
    if not folder.is_dir():
        raise AdmError(f"{folder}: no such file or folder")
    for file in (folder / CONFIG, folder / SUBFOLDER / CONFIG):
        if file.is_file():
            try:
                read(file)
            except AdmError as error:
                raise AdmError(f"{file.parent}: {error}") from error
            return file
    if (folder / "model_index.json").is_file():
        raise AdmError(f"{folder}: is a pipeline without a U-Net: it has no {SUBFOLDER}/{CONFIG}")
    if (folder / "scheduler_config.json").is_file():
        raise AdmError(f"{folder}: is the folder of a scheduler; give its pipeline's, or the U-Net's")
    raise AdmError(
        f"{folder}: holds neither {CONFIG} nor {SUBFOLDER}/{CONFIG}: it is no folder of a U-Net of Diffusers"
    )


def _weights_in(folder: Path) -> Path:
    if (folder / WEIGHTS).is_file():
        return folder / WEIGHTS
    call = f'UNet2DModel.from_pretrained("{folder}").save_pretrained("FOLDER", max_shard_size="100GB")'
    convert = f"make one safetensors file of them with Diffusers: {call}"
    there = sorted(file.name for file in folder.iterdir() if not is_hidden(file.name))
    if any(name.endswith(".safetensors.index.json") for name in there):
        raise AdmError(f"{folder}: its weights are spread over several files; {convert}")
    others = [name for name in there if name.endswith(".safetensors")]
    if others:
        raise AdmError(f"{folder}: has no {WEIGHTS}; give one of its files instead: {', '.join(others)}")
    pickled = [name for name in there if name.endswith(".bin")]
    if pickled:
        raise AdmError(f"{folder}: has its weights only pickled ({', '.join(pickled)}); {convert}")
    raise AdmError(f"{folder}: has a config and no weights ({WEIGHTS})")


def _config_on_hub(repository: str, cached: bool) -> Path | None:
    """None where it holds no U-Net, or none that was downloaded."""
    places = (CONFIG, f"{SUBFOLDER}/{CONFIG}")
    return next((file for place in places if (file := _on_hub(repository, place, cached))), None)


def _on_hub(repository: str, file: str, cached: bool) -> Path | None:
    from huggingface_hub import errors, hf_hub_download

    try:
        return Path(hf_hub_download(repository, file, local_files_only=cached))
    except errors.LocalEntryNotFoundError as error:
        if cached:
            return None
        raise AdmError(
            f"{HUB}{repository}: the Hugging Face hub cannot be reached, and {_fetch(repository)}"
        ) from error
    except errors.EntryNotFoundError:
        return None
    except (errors.HfHubHTTPError, OSError) as error:
        raise AdmError(f"{HUB}{repository}: {str(error).strip().splitlines()[0]}") from error


def _fetch(repository: str) -> str:
    return (
        f"it was not downloaded: run 'hf download {repository}' once where there is a network, "
        "or give a folder that holds it"
    )
