"""Seeded synthetic hot-rolled steel with NEU-DET's six defects, moving strips, and corruptions of images."""
