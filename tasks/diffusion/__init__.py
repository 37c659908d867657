"""Diffusion: denoisers that generate images; networks and schedulers are Diffusers'."""
