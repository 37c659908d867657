"""Semantic segmentation: networks, transforms, inference and metric are MMSegmentation's."""
