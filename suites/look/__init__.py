"""Afterwards: finished cells opened again, compared, pictured."""
