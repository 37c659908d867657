"""Character-level language modelling: networks are Transformers', a text is a picture one row high."""
