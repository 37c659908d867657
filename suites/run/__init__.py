"""The runner: cells in order, verdicts on how they ended, and what is shown meanwhile."""
