"""What language offers, told without torch."""

from __future__ import annotations

from tasks.language import data_settings, networks
from tasks.offer import Offer

OFFER = Offer(
    networks=networks.catalogue,
    read_data=data_settings.read,
    check_definition=networks.check_definition,
    libraries=("transformers",),
)
