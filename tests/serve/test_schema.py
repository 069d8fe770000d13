"""What the OpenAPI schema promises is held, whatever is sent: schemathesis makes requests, right and wrong ones."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from detect.serve.app import create_app
from detect.serve.requests import Limits
from detect.serve.service import ServedModel
from serving import CATEGORIES, THRESHOLDS, Client, Known, as_file, as_npy, served

SCHEMA = create_app(ServedModel("known", CATEGORIES, THRESHOLDS, lambda images: []), Limits()).openapi()
LABELS = [f"{method.upper()} {path}" for path, item in SCHEMA["paths"].items() for method in item]
MODES = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)


def image_bytes(kind: str) -> st.SearchStrategy[bytes]:
    """Whole files, files cut short, and noise."""
    sides = st.integers(1, 40)
    whole = st.builds(lambda h, w: as_file(np.full((h, w), 7 * h % 256, np.uint8), kind), sides, sides)
    return st.one_of(whole, whole.map(lambda content: content[: len(content) // 2]), st.binary(max_size=300))


for kind in ("PNG", "JPEG", "BMP", "TIFF", "GIF", "WEBP"):
    schemathesis.openapi.media_type(f"image/{kind.lower()}", image_bytes(kind))
for kind in ("graymap", "pixmap", "bitmap", "anymap"):
    schemathesis.openapi.media_type(f"image/x-portable-{kind}", image_bytes("PPM"))
schemathesis.openapi.media_type(
    "application/x-npy",
    st.one_of(st.binary(max_size=300), st.integers(1, 40).map(lambda h: as_npy(np.zeros((h, 9), np.uint8)))),
)
schemathesis.openapi.media_type("application/octet-stream", st.binary(max_size=300))


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    known = Known()
    known.gate.set()
    with served(known.look, limits=Limits(timeout_s=20)) as one:
        yield one


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.value)
@pytest.mark.parametrize("label", LABELS)
def test_the_schema_is_held(client: Client, label: str, mode: GenerationMode) -> None:
    schema = schemathesis.openapi.from_dict(json.loads(json.dumps(SCHEMA)))
    (operation,) = [each.ok() for each in schema.get_all_operations() if each.ok().label == label]
    if mode is GenerationMode.NEGATIVE and label.startswith("GET"):
        pytest.skip("nothing in it can be wrong")
    statuses: set[int] = set()

    with requests.Session() as session:

        @settings(
            max_examples=40 if label.startswith("POST") else 3,
            derandomize=True,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def holds(case: Any) -> None:
            # Of random bytes the schema can't tell whether they are an image, so right ones may be refused.
            answer = case.call_and_validate(
                base_url=f"http://127.0.0.1:{client.port}",
                session=session,
                excluded_checks=[positive_data_acceptance],
            )
            statuses.add(answer.status_code)

        holds()
    assert 500 not in statuses
    if mode is GenerationMode.POSITIVE:
        assert 200 in statuses
