"""The tables of ``adm insight``: made of what trained networks show on test images, so no report has them."""
