"""A detector behind HTTP: images in, JSON out, and a page for people."""
