"""Figures that papers and repositories publish, with their source; never ranked with ours."""

from results.claims.claims import load_claims

__all__ = ["load_claims"]
