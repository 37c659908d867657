"""Comparing cells with a store: what is done, what is to do, why, and what it will cost."""
