"""What diffusion offers, told without torch."""

from __future__ import annotations

from adm_core.task import Offered
from tasks.diffusion import data_settings, networks
from tasks.diffusion.networks import schedulers
from tasks.offer import Offer


def _offered(settings: data_settings.DataSettings) -> Offered:
    noise = settings.noise
    return Offered(
        "denoiser",
        own_views=False,
        null_class=settings.label_dropout > 0,
        timesteps=noise.timesteps,
        clean_example=(noise.schedule, noise.prediction) != ("cosine", "epsilon"),
    )


OFFER = Offer(
    networks=networks.catalogue,
    read_data=data_settings.read,
    offered=lambda settings, _made: _offered(settings),
    external=networks.EXTERNAL,
    check_external=networks.check,
    check_definition=networks.check_definition,
    locate=networks.locate,
    check_weights=schedulers.check_weights,
    student_keys=data_settings.STUDENT_KEYS,
    libraries=("diffusers", "torchmetrics", "torch_fidelity", "scipy", "sklearn", "PIL"),
)
