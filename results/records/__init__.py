"""Records: their schema, its migrations, and the store they lie in."""
