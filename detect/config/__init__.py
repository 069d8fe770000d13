"""Configuration of a run: typed schema, and loading from and writing to YAML."""
