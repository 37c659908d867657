"""Figures that papers and repositories publish, with their source; never ranked with ours."""
