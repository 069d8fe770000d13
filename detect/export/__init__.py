"""A trained detector as a file for another runtime, with a check that it finds the same."""
