"""The tables of a report: one file each, which registers its table with ``registry``. Nothing else names them."""
