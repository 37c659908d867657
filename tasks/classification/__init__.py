"""Image classification: online and offline distillation between image classifiers."""
