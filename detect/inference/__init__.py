"""Inference with a trained detector on unlabelled images."""
