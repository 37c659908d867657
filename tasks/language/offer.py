"""What language offers, told without torch."""

from __future__ import annotations

from adm_core.task import Offered
from tasks.language import data_settings, networks
from tasks.offer import Offer

OFFER = Offer(
    networks=networks.catalogue,
    read_data=data_settings.read,
    offered=lambda _settings, _made: Offered("class_logits", own_views=False, branches=False),
    check_definition=networks.check_definition,
    libraries=("transformers",),
)
