"""What a server takes on: how large, how long, and how much at once."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import ConfigError
from ..images import MOST_PIXELS

MEBIBYTE = 2**20


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of a server.

    Attributes:
        max_mb: of a request's body, in MiB.
        max_pixels: of an image, as its header claims; what ``read_image`` refuses is refused in any case.
        timeout_s: that an upload may take, and then again that its answer may take.
        queue: requests that are taken on at once, those still being uploaded included.
        batch: images of one size that the network looks at together.

    Raises:
        ConfigError: a limit that nothing could meet.
    """

    max_mb: float = 20.0
    max_pixels: int = 20_000_000
    timeout_s: float = 30.0
    queue: int = 64
    batch: int = 8

    def __post_init__(self) -> None:
        for name, value, most in (
            ("max-mb", self.max_mb, 4096),
            ("max-pixels", self.max_pixels, MOST_PIXELS),
            ("timeout", self.timeout_s, 86_400),
            ("queue", self.queue, 10_000),
            ("batch", self.batch, 256),
        ):
            if not 0 < value <= most:
                raise ConfigError(f"--{name} is {value}", fix=f"give more than 0 and at most {most:,}")

    @property
    def max_bytes(self) -> int:
        """Of a body."""
        return int(self.max_mb * MEBIBYTE)
