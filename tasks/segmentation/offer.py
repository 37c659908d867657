"""What semantic segmentation offers, told without torch."""

from __future__ import annotations

from adm_core.task import Offered
from tasks.offer import Offer
from tasks.segmentation import data_settings, networks

OFFER = Offer(
    networks=networks.catalogue,
    read_data=data_settings.read,
    offered=lambda _settings, made: Offered("class_logits", unlabelled=bool(made and made.shift)),
    external=networks.EXTERNAL,
    check_external=networks.check,
    config_files=networks.config_files,
    conditions=("shift",),
    libraries=("mmseg", "mmengine", "mmcv", "scipy", "sklearn", "PIL", "cv2"),
)
