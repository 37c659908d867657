"""What the parent and a worker share about one cell: its folder, its lock, and how it is to be run."""
