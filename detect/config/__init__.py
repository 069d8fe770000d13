"""The configuration of a run: its typed tree, and the way from YAML and back."""
