"""Training data: data set, augmentation, loaders and clips."""
