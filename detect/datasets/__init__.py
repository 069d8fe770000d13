"""Labels and images of a data set: read, audited, divided and written. No torch."""
