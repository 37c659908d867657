"""A Diffusers U-Net as the loop sees it: noisy images and timesteps in, what they predict out."""

from __future__ import annotations

from typing import Any

from diffusers.models.unets.unet_2d import UNet2DModel
from torch import Tensor, nn

from adm_core.errors import AdmError
from adm_core.taps import Network
from tasks.diffusion.networks import configs


class Denoiser(nn.Module):
    """Wraps a ``UNet2DModel`` without changing it: its state has the same names, below ``unet.``.

    Attributes:
        unet: Diffusers' network.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.unet = UNet2DModel(**config)

    def forward(self, noisy: Tensor, timestep: Tensor, label: Tensor | None = None) -> Tensor:
        """Predict.

        Args:
            noisy: noisy images [B, C, H, W].
            timestep: int64 [B].
            label: int64 [B], the class of each image; None for a network that is not told it.

        Returns:
            [B, C, H, W].
        """
        prediction: Tensor = self.unet(noisy, timestep, label, return_dict=False)[0]
        return prediction


def build(name: str, config: dict[str, Any]) -> Network:
    """Build a network with its taps.

    Args:
        name: by which it is known.
        config: from :func:`tasks.diffusion.networks.configs.adapted`.

    Raises:
        AdmError: Diffusers cannot build it.
    """
    try:
        module = Denoiser(config)
    except Exception as error:  # a constructor may raise anything
        raise AdmError(f"network '{name}' cannot be built: {type(error).__name__}: {error}") from error
    return Network(name, module, configs.taps(config))
