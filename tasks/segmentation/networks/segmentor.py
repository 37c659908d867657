"""An MMSegmentation network as the loop sees it: pictures in, logits out, with taps on the way."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from adm_core.errors import AdmError
from adm_core.taps import Network

_PROBE_SIDE = 128


class Segmentor(nn.Module):
    """Wraps an ``EncoderDecoder`` without changing it: its state has the same names, below ``model.``.

    Its forward takes RGB images [B, 3, H, W] with values in 0..255, normalises them as the network's own
    configuration says, and gives the last head's logits [B, K, h, w] at that head's resolution. Auxiliary
    heads run in training, and wherever a tap listens to them: those of a frozen teacher can be read.

    Attributes:
        model: MMSegmentation's network.
        config: the configuration that it was built from.
        stages: one place per output of the backbone, for taps.
    """

    def __init__(self, name: str, config: dict[str, Any]) -> None:
        super().__init__()
        from mmseg.registry import MODELS

        self.name, self.config = name, config
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about MMSegmentation's own losses, which are not used
                self.model = MODELS.build(config)
        except AdmError:
            raise
        except Exception as error:  # a constructor may raise anything
            raise AdmError(f"network '{name}' cannot be built: {type(error).__name__}: {error}") from error
        self.model.init_weights()
        self.model.eval()  # a forward pass to count the outputs must not move statistics
        with torch.no_grad():
            outputs = len(self.model.backbone(torch.zeros(1, 3, _PROBE_SIDE, _PROBE_SIDE)))
        self.model.train()
        self.stages = nn.ModuleList(nn.Identity() for _ in range(outputs))
        preprocessor = self.model.data_preprocessor
        if not getattr(preprocessor, "_enable_normalize", False):
            raise AdmError(f"network '{name}': its data_preprocessor has no mean and std")
        self.flipped = not preprocessor.channel_conversion
        for head in self._heads():
            # What the classifier reads, before dropout. Neither place holds parameters, so names in the state stay.
            kept = getattr(head, "dropout", None)
            head.dropout = nn.Sequential(nn.Identity(), *([kept] if kept is not None else []))

    def _heads(self) -> list[nn.Module]:
        decode = self.model.decode_head
        return list(decode) if isinstance(decode, nn.ModuleList) else [decode]

    def _auxiliary_heads(self) -> list[nn.Module]:
        if not self.model.with_auxiliary_head:
            return []
        auxiliary = self.model.auxiliary_head
        return list(auxiliary) if isinstance(auxiliary, nn.ModuleList) else [auxiliary]

    def normalised(self, images: Tensor) -> Tensor:
        """Images [B, 3, H, W] (RGB, 0..255) as the network's configuration wants them."""
        preprocessor = self.model.data_preprocessor
        images = images.flip(1) if self.flipped else images
        normal: Tensor = (images - preprocessor.mean) / preprocessor.std
        return normal

    def forward(self, images: Tensor) -> Tensor:
        """Images [B, 3, H, W] (RGB, 0..255) → logits [B, K, h, w]."""
        try:
            maps = self.model.backbone(self.normalised(images))
            maps = [place(m) for place, m in zip(self.stages, maps, strict=True)]
            if self.model.with_neck:
                maps = self.model.neck(maps)
            for head in self._auxiliary_heads():
                if self.training or head._forward_hooks:  # a tap that listens switches it on, in a frozen teacher too
                    head(maps)
            first, *further = self._heads()
            logits: Tensor = first(maps)
            for head in further:
                logits = head(maps, logits)
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise AdmError(
                f"network '{self.name}' normalises over the batch where its map is a single position (image pooling), "
                "so that a batch of one has no statistics: batch_size / accumulate must be 2 or more"
            ) from error
        return logits


def build(name: str, config: dict[str, Any]) -> Network:
    """Build a network and find its taps.

    Args:
        name: by which it is known.
        config: from :func:`tasks.segmentation.networks.configs.adapted`.

    Raises:
        AdmError: the configuration cannot be built, or the network is trained by losses of its heads' own.
    """
    module = Segmentor(name, config)
    heads: list[tuple[str, Any]] = [
        (f"model.decode_head{'.' + str(i) if len(module._heads()) > 1 else ''}", head)
        for i, head in enumerate(module._heads())
    ]
    auxiliary: list[tuple[str, Any]] = []
    if module.model.with_auxiliary_head:
        given = module.model.auxiliary_head
        auxiliary = (
            [(f"model.auxiliary_head.{i}", head) for i, head in enumerate(given)]
            if isinstance(given, nn.ModuleList)
            else [("model.auxiliary_head", given)]
        )
    further = [*auxiliary, *heads[:-1]]
    for _, head in (*heads, *auxiliary):
        _check_head(name, head)
    last = heads[-1][0]
    taps = {f"stage{i + 1}": f"stages.{i}" for i in range(len(module.stages))}
    taps |= {"penultimate": f"{last}.dropout.0", "logits": f"{last}.conv_seg"}
    taps |= {f"auxiliary{i + 1}": path for i, (path, _) in enumerate(further)}
    weights = {f"auxiliary{i + 1}": float(head.loss_decode.loss_weight) for i, (_, head) in enumerate(further)}
    fired = _look(name, module, taps)
    return Network(name, module, {t: path for t, path in taps.items() if t in fired or t in weights}, auxiliary=weights)


def _check_head(name: str, head: nn.Module) -> None:
    from mmseg.models.decode_heads.decode_head import BaseDecodeHead

    kind: Any = type(head)
    if not isinstance(head, BaseDecodeHead) or kind.loss_by_feat is not BaseDecodeHead.loss_by_feat:
        raise AdmError(
            f"network '{name}': its {kind.__name__} is trained by a loss of its own, which is not distilled here"
        )


def _look(name: str, module: Segmentor, taps: dict[str, str]) -> set[str]:
    """Try the network: its prediction must be one map, and tapped maps must stay as they were tapped.

    Returns:
        The taps at which a tensor passed.
    """
    seen: dict[str, tuple[Tensor, int]] = {}

    def listen(tap: str):  # type: ignore[no-untyped-def]
        def hook(_module: nn.Module, _inputs: object, output: Any) -> None:
            if isinstance(output, Tensor):
                seen[tap] = (output, output._version)

        return hook

    handles = [module.get_submodule(path).register_forward_hook(listen(tap)) for tap, path in taps.items()]
    module.eval()
    try:
        with torch.no_grad():
            logits = module(torch.zeros(1, 3, _PROBE_SIDE, _PROBE_SIDE))
    except RuntimeError as error:
        raise AdmError(f"network '{name}' cannot be run: {error}") from error
    module.train()
    for handle in handles:
        handle.remove()
    if not isinstance(logits, Tensor) or logits.dim() != 4:
        raise AdmError(f"network '{name}' gives {type(logits).__name__}, not one map of logits")
    if any(tensor._version != version for tensor, version in seen.values()):
        parts: list[Any] = list(module.modules())
        for part in parts:
            if getattr(part, "inplace", False) is True:
                part.inplace = False
    return set(seen)
