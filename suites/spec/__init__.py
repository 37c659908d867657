"""Reading a suite: its file, its methods' settings, its own networks, and the cells that it expands to."""
