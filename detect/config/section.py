"""What every part of the configuration is made of: a section that refuses unknown keys, and kinds of numbers."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1, le=1_000_000)]  # no width, size or number of steps is larger
Count = Annotated[int, Field(ge=0, le=1_000_000)]
Layers = Annotated[int, Field(ge=0, le=1000)]
Beside = Annotated[float, Field(ge=-10, le=10)]  # pixels: what lies farther from what it marks is another mistake
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Depth = Annotated[int, Field(ge=255, le=65535)]  # the largest gray value of a camera


class Section(BaseModel):
    """A part of the tree; unknown keys are refused, values don't change once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
