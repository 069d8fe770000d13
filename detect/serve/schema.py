"""What answers hold, as the OpenAPI schema tells it."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, Field

from ..images import FORMATS_READ
from .decoding import IMAGE_TYPES, NPY_TYPE, RAW_TYPE
from .refusals import MEANINGS

Score = Annotated[float, Field(ge=0, le=1)]


class Problem(BaseModel):
    """Why there is no result."""

    error: str = Field(description="One sentence: what was found, where, and what to do.")


class Found(BaseModel):
    """One detection."""

    label: str = Field(description="Its class.")
    score: Score
    box_xyxy: tuple[float, float, float, float] = Field(
        description="x1, y1, x2, y2 in pixels of the image, 0-based; x2 and y2 exclusive."
    )


class ImageRead(BaseModel):
    """The image as it was read."""

    width: int = Field(description="In pixels.")
    height: int = Field(description="In pixels.")
    channels: int = Field(description="1: gray, 3: colour.")
    bits: int = Field(description="Of a value, 8 or 16.")


class Milliseconds(BaseModel):
    """Where the time went."""

    decode: float = Field(description="Until the image was read.")
    wait: float = Field(description="Until it was its turn.")
    detect: float = Field(description="In the network, together with the batch.")


class Answer(BaseModel):
    """What was found in an image."""

    model: str = Field(description="The detector's name.")
    image: ImageRead
    thresholds: dict[str, Score] = Field(description="The lowest score shown, by class.")
    detections: list[Found] = Field(description="Best score first.")
    batch: int = Field(description="Images that the network looked at together.")
    ms: Milliseconds


class LimitsTold(BaseModel):
    """What the server takes on."""

    max_bytes: int
    max_pixels: int
    timeout_s: float
    queue: int
    batch: int


class ModelTold(BaseModel):
    """The detector and the server's limits."""

    model: str
    version: str = Field(description="Of the library.")
    categories: list[str]
    thresholds: dict[str, Score] = Field(description="The lowest score shown unless a request asks otherwise.")
    colours: dict[str, str] = Field(description="Of each class in pictures, #rrggbb.")
    limits: LimitsTold


class Health(BaseModel):
    """Whether the server works."""

    live: bool = Field(description="The process answers.")
    ready: bool = Field(description="An image would be taken on now.")
    waiting: int = Field(description="Images that wait for the detector.")


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The refusals of a route, for its documentation."""
    return {status: {"model": Problem, "description": MEANINGS[status]} for status in statuses}


_BINARY = {"schema": {"type": "string", "format": "binary"}}
_FORM = {
    "schema": {
        "type": "object",
        "required": ["image"],
        "properties": {
            "image": {"type": "string", "format": "binary", "description": "An image file, or an .npy file."}
        },
    }
}

UPLOAD: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": f"A {FORMATS_READ} file of one image, gray or colour, 8 or 16 bits, turned upright as its "
        "orientation tag says; an .npy file; or the bare values of an array in C order, uint8 or uint16 with the lower "
        "byte first, whose shape the query tells.",
        "content": {
            **{each: _BINARY for each in (*IMAGE_TYPES, NPY_TYPE, RAW_TYPE)},
            "multipart/form-data": _FORM,
        },
    }
}
