"""Benchmarks: training and evaluation of several systems over seeds and folds, latency, hyperparameter search."""
