"""Using a trained detector on images that nobody labelled."""
