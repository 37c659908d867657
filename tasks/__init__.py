"""Tasks: what networks see and what they are for. A task is a folder; tasks never import each other."""
