"""A detector behind HTTP: images in, JSON out, and a page for people."""

from .app import create_app
from .limits import Limits
from .model import Model
from .server import listen, server_of

__all__ = ["Limits", "Model", "create_app", "listen", "server_of"]
