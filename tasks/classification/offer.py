"""What image classification offers, told without torch."""

from __future__ import annotations

from adm_core.task import Offered
from tasks.classification import data_settings, networks
from tasks.offer import Offer

OFFER = Offer(
    networks=networks.catalogue,
    read_data=data_settings.read,
    offered=lambda _settings, made: Offered(
        "class_logits", extra_view=True, balanced=True, unlabelled=bool(made and made.shift)
    ),
    external=networks.EXTERNAL,
    check_definition=networks.check_definition,
    check_used=data_settings.check_used,
    image_folders=True,
    conditions=("noise", "shift"),
    libraries=("timm", "scipy", "sklearn", "PIL"),
)
