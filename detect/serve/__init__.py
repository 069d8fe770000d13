"""Serve a detector over HTTP: images in, JSON out, with a web page."""
