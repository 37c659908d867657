"""A trained network in the form that plain MMSegmentation loads: a configuration and a checkpoint."""

from __future__ import annotations

import pprint
from pathlib import Path
from typing import Any

import torch

from adm_files import replacing
from tasks.datasets.scenes import Colour
from tasks.segmentation.data_settings import Sliding
from tasks.segmentation.networks.segmentor import Segmentor

CONFIG, CHECKPOINT = "config.py", "weights.pth"


def save(network: Segmentor, folder: Path, classes: tuple[str, ...], palette: tuple[Colour, ...],
         sliding: Sliding | None) -> None:  # fmt: skip
    """Write ``config.py`` and ``weights.pth``, for ``mmseg.apis.init_model(config, checkpoint)``.

    Args:
        network: what to save.
        folder: made if need be.
        classes: names that the checkpoint carries.
        palette: their colours.
        sliding: windows for inference; None: the whole image at once.
    """
    folder.mkdir(parents=True, exist_ok=True)
    test: dict[str, Any] = {"mode": "whole"}
    if sliding:
        test = {"mode": "slide", "crop_size": (sliding.crop,) * 2, "stride": (sliding.stride,) * 2}
    pipeline = [{"type": "LoadImageFromFile"}, {"type": "PackSegInputs"}]
    config = {
        "default_scope": "mmseg",
        "model": {**network.config, "pretrained": None, "test_cfg": test},
        "test_pipeline": pipeline,
        "test_dataloader": {"dataset": {"type": "BaseSegDataset", "pipeline": pipeline}},
    }
    # Not by Config.dump, whose formatter takes half a second, twice in every cell.
    lines = (f"{key} = {pprint.pformat(value, width=119, sort_dicts=False)}\n" for key, value in _plain(config).items())
    with replacing(folder / CONFIG) as new:
        new.write_text("".join(lines), encoding="utf-8")
    state = {key: value.detach().cpu() for key, value in network.model.state_dict().items()}
    meta = {"dataset_meta": {"classes": list(classes), "palette": [list(colour) for colour in palette]}}
    with replacing(folder / CHECKPOINT) as new:
        torch.save({"state_dict": state, "meta": meta}, new)


def _plain(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration in Python's own dictionaries, lists and tuples."""
    from mmengine.config import Config

    plain: dict[str, Any] = Config(config).to_dict()
    return plain
