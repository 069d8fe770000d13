"""Synthetic hot-rolled steel with NEU-DET's six defects, moving strips, and image corruptions, all from seeds."""
