"""What image classification offers, told without torch."""

from __future__ import annotations

from tasks.classification import data_settings, networks
from tasks.offer import Offer

OFFER = Offer(
    networks=networks.catalogue,
    read_data=data_settings.read,
    external=networks.EXTERNAL,
    check_definition=networks.check_definition,
    check_used=data_settings.check_used,
    image_folders=True,
    conditions=("noise", "shift"),
    libraries=("timm", "scipy", "sklearn", "PIL"),
)
