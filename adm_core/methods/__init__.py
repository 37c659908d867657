"""One file per published method; the file `name.py` holds the method `name`."""
