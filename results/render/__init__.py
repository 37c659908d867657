"""One file per form: each turns tables into text, the same text for the same tables."""
