"""Serving: equal results for all upload formats and batch sizes, thresholds, limits, timeouts, token and page."""

from __future__ import annotations

import http.client
import io
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detect import Predictor
from detect.errors import DataError, OutOfMemoryError
from detect.serve.requests import Limits
from detect.synthetic.scenes import sample_image
from serving import CATEGORIES, THRESHOLDS, Client, Known, as_file, as_form, as_npy, gray, served


@pytest.fixture
def known() -> Known:
    made = Known()
    made.gate.set()
    return made


@pytest.fixture
def client(known: Known) -> Iterator[Client]:
    with served(known.look) as one:
        yield one


def eventually(true: object) -> None:
    assert callable(true)
    end = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_images_are_rotated_by_their_orientation_tag(client: Client, known: Known) -> None:
    image = np.random.default_rng(0).integers(100, 255, (30, 40), dtype=np.uint8)
    exif = Image.Exif()
    exif[274] = 6
    for form in ("PNG", "TIFF"):
        file = io.BytesIO()
        Image.fromarray(np.rot90(image)).save(file, form, exif=exif)
        answer = client.detect(file.getvalue(), f"image/{form.lower()}")
        assert (answer.json["image"]["width"], answer.json["image"]["height"]) == (40, 30)
        shown = client.ask("POST", "/v1/preview", file.getvalue(), content_type=f"image/{form.lower()}").content
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(shown))), image)
    assert all(np.array_equal(seen, image) for batch in known.seen for seen in batch)


def test_all_upload_formats_give_equal_results(client: Client, known: Known) -> None:
    image = np.random.default_rng(0).integers(100, 255, (30, 40), dtype=np.uint8)
    form, form_type = as_form(as_file(image, "BMP"), "x.bmp")
    npy_form, _ = as_form(as_npy(image), "x.npy")
    ways = [
        (as_file(image), "image/png", ""),
        (as_file(image, "BMP"), "image/x-ms-bmp", ""),
        (as_file(image, "TIFF"), "image/tiff; charset=binary", ""),
        (as_file(image, "PPM"), "image/x-portable-graymap", ""),
        (form, form_type, ""),
        (npy_form, form_type, ""),
        (as_npy(image), "application/x-npy", ""),
        (as_npy(np.asfortranarray(image)), "application/octet-stream", ""),
        (as_npy(image[..., None]), "application/x-npy", ""),
        (image.tobytes(), "application/octet-stream", "?shape=30,40"),
    ]
    answers = [client.detect(*way) for way in ways]
    assert [each.status for each in answers] == [200] * len(ways)
    assert len({str((each.json["detections"], each.json["image"])) for each in answers}) == 1
    assert all(np.array_equal(seen, image) for batch in known.seen for seen in batch)
    content = answers[0].json
    assert content["model"] == "known"
    assert content["image"] == {"width": 40, "height": 30, "channels": 1, "bits": 8}
    assert content["thresholds"] == THRESHOLDS
    assert content["detections"][0]["box_xyxy"] == [1, 2, 39, 28]
    assert set(content["ms"]) == {"decode", "wait", "detect"}


def test_16_bit_and_colour_images_are_received_exactly(client: Client, known: Known) -> None:
    rng = np.random.default_rng(1)
    deep = rng.integers(0, 65535, (20, 24), dtype=np.uint16)
    colour = rng.integers(0, 255, (20, 24, 3), dtype=np.uint8)
    ways = [
        (as_file(deep), "image/png", ""),
        (deep.astype("<u2").tobytes(), "application/octet-stream", "?shape=20,24&dtype=uint16"),
        (as_npy(deep.astype(">u2")), "application/x-npy", ""),
        (as_npy(np.asfortranarray(colour)), "application/x-npy", ""),
        (colour.tobytes(), "application/octet-stream", "?shape=20,24,3"),
    ]
    answers = [client.detect(*way).json["image"] for way in ways]
    assert [(each["bits"], each["channels"]) for each in answers] == [(16, 1)] * 3 + [(8, 3)] * 2
    seen = [batch[0] for batch in known.seen]
    assert all(np.array_equal(each, deep) and each.dtype == np.uint16 for each in seen[:3])
    assert all(np.array_equal(each, colour) for each in seen[3:])


def test_threshold_per_class_or_from_the_request(client: Client) -> None:
    body = as_file(gray(102))  # bright 0.4, dark 0.3
    assert [each["label"] for each in client.detect(body).json["detections"]] == ["dark"]
    low = client.detect(body, query="?threshold=0.1").json
    assert [(each["label"], each["score"]) for each in low["detections"]] == [("bright", 0.4), ("dark", 0.3)]
    assert low["thresholds"] == dict.fromkeys(CATEGORIES, 0.1)
    assert client.detect(body, query="?threshold=1").json["detections"] == []


def test_simultaneous_images_of_equal_size_form_batches(known: Known) -> None:
    known.gate.clear()
    images = [gray(10 * i, width=40 if i % 2 else 56) for i in range(9)]
    with served(known.look, limits=Limits(batch=3, timeout_s=30)) as client, ThreadPoolExecutor(10) as pool:
        first = pool.submit(client.detect, as_file(gray(0, width=16)))
        assert known.began.wait(30)
        others = [pool.submit(client.detect, as_file(each), query="?threshold=0") for each in images]
        eventually(lambda: client.ask("GET", "/health").json["waiting"] == len(images))
        known.gate.set()
        assert first.result().json["batch"] == 1
        answers = [each.result().json for each in others]
        text = client.ask("GET", "/metrics").content.decode()
    assert sorted(len(batch) for batch in known.seen) == [1, 1, 2, 3, 3]
    assert all(len({each.shape for each in batch}) == 1 for batch in known.seen)
    for image, answer in zip(images, answers):
        assert [each["score"] for each in answer["detections"]] == pytest.approx(Known.of(image).scores, abs=1e-6)
    assert "detect_batch_images_sum 10.0" in text
    assert 'detect_requests_total{path="/v1/detect",status="200"} 10.0' in text


def test_batch_results_equal_single_results() -> None:
    predictor = Predictor.load("released")
    images = [sample_image("scratches", number, seed=4)[0] for number in (1, 2)]
    images += [images[0][:120], np.repeat(images[1][..., None], 3, axis=2), images[0].astype(np.uint16) * 257]
    images.append(np.tile(images[1], (3, 1)))  # large enough for tiles
    together = predictor.predict_batch(images)
    for image, detections in zip(images, together):
        single = predictor(image)
        assert detections.labels.tolist() == single.labels.tolist()
        assert np.allclose(detections.boxes_xyxy, single.boxes_xyxy, atol=1e-2)
        assert np.allclose(detections.scores, single.scores, atol=1e-4)
    assert predictor.predict_batch([]) == []


def test_request_beyond_the_timeout_is_not_computed(known: Known) -> None:
    known.gate.clear()
    with served(known.look, limits=Limits(timeout_s=0.5)) as client, ThreadPoolExecutor(2) as pool:
        first = pool.submit(client.detect, as_file(gray(1)))
        assert known.began.wait(30)
        late = client.detect(as_file(gray(2, width=33)))
        assert late.status == 504
        assert "more than 0.5 s" in late.error
        assert first.result().status == 504
        known.gate.set()
        assert client.detect(as_file(gray(3))).status == 200
    assert [each.shape[1] for batch in known.seen for each in batch] == [40, 40]


def test_request_of_a_disconnected_client_is_not_computed(known: Known) -> None:
    known.gate.clear()
    with served(known.look) as client, ThreadPoolExecutor(2) as pool:
        first = pool.submit(client.detect, as_file(gray(1)))
        assert known.began.wait(30)
        gone = http.client.HTTPConnection("127.0.0.1", client.port)
        gone.request("POST", "/v1/detect", as_file(gray(2, width=33)), {"Content-Type": "image/png"})
        eventually(lambda: client.ask("GET", "/health").json["waiting"] == 1)
        gone.close()
        eventually(lambda: 'status="400"' in client.ask("GET", "/metrics").content.decode())
        known.gate.set()
        assert first.result().status == 200
        assert client.detect(as_file(gray(3))).status == 200
    assert [each.shape[1] for batch in known.seen for each in batch] == [40, 40]


def test_full_server_answers_503_with_retry_after(known: Known) -> None:
    known.gate.clear()
    with served(known.look, limits=Limits(queue=2)) as client, ThreadPoolExecutor(2) as pool:
        taken = [pool.submit(client.detect, as_file(gray(i))) for i in range(2)]
        eventually(lambda: client.ask("GET", "/health").status == 503)
        assert client.ask("GET", "/health").json["ready"] is False
        refused = client.detect(as_file(gray(9)))
        assert refused.status == 503
        assert refused.headers["retry-after"] == "1"
        assert "2 requests are in progress" in refused.error
        known.gate.set()
        assert [each.result().status for each in taken] == [200, 200]
        eventually(lambda: client.ask("GET", "/health").status == 200)


def test_failing_image_does_not_affect_others(known: Known) -> None:
    errors = {
        2: DataError("the image has gray values beyond white", fix="give others"),
        3: OutOfMemoryError("detection on 1 images needs more memory than there is", fix="take less"),
        4: RuntimeError("a secret of the program"),
    }

    def look(images: list[np.ndarray]) -> list[object]:
        for each in images:
            if int(each[0, 0]) in errors:
                raise errors[int(each[0, 0])]
        return list(known.look(images))

    known.gate.clear()
    with served(look, limits=Limits(batch=8)) as client, ThreadPoolExecutor(8) as pool:
        first = pool.submit(client.detect, as_file(gray(0)))
        assert known.began.wait(30)
        others = [pool.submit(client.detect, as_file(gray(i))) for i in range(1, 6)]
        eventually(lambda: client.ask("GET", "/health").json["waiting"] == 5)
        known.gate.set()
        assert first.result().status == 200
        replies = [each.result() for each in others]
        assert [each.status for each in replies] == [200, 422, 503, 500, 200]
        assert "beyond white; give others" in replies[1].error
        assert "secret" not in replies[3].error
        assert client.detect(as_file(gray(7))).status == 200


def test_model_health_and_schema(client: Client) -> None:
    model = client.ask("GET", "/v1/model").json
    assert model["categories"] == list(CATEGORIES)
    assert model["thresholds"] == THRESHOLDS
    assert set(model["colours"]) == set(CATEGORIES)
    assert model["limits"]["max_bytes"] == 20 * 2**20
    health = client.ask("GET", "/health")
    assert health.json == {"live": True, "ready": True, "waiting": 0}
    assert health.headers["x-content-type-options"] == "nosniff"
    schema = client.ask("GET", "/openapi.json").json
    assert set(schema["paths"]) == {"/v1/detect", "/v1/preview", "/v1/model", "/health", "/metrics"}
    statuses = {"200", "400", "408", "413", "415", "422", "500", "503", "504"}
    assert set(schema["paths"]["/v1/detect"]["post"]["responses"]) == statuses


def test_preview_is_an_8_bit_png_of_the_full_range(client: Client, tmp_path: Path) -> None:
    from detect.images import read_image

    deep = np.linspace(0, 4095, 30 * 40).reshape(30, 40).astype(np.uint16)
    reply = client.ask("POST", "/v1/preview", as_file(deep, "TIFF"), content_type="image/tiff")
    assert reply.headers["content-type"] == "image/png"
    (tmp_path / "x.png").write_bytes(reply.content)
    pixels = read_image(tmp_path / "x.png")
    assert pixels.dtype == np.uint8
    assert pixels.shape == (30, 40)
    assert (pixels.min(), pixels.max()) == (0, 255)
    wide = client.ask("POST", "/v1/preview", as_file(gray(9, width=5000)), content_type="image/png")
    (tmp_path / "w.png").write_bytes(wide.content)
    assert read_image(tmp_path / "w.png").shape[1] == 2048


def test_page_loads_nothing_from_other_hosts(client: Client) -> None:
    page = client.ask("GET", "/")
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
    text = page.content.decode()
    assert not [each for each in text.split('"') if each.startswith(("http:", "https:", "//"))]
    for name in ("page.css", "script/main.js", "script/theme.js"):
        assert name in text
        assert client.ask("GET", f"/{name}").status == 200
    assert client.ask("GET", "/docs").status == 404


def test_token_is_required(known: Known) -> None:
    with served(known.look, token="very-secret") as client:
        without = client.detect(as_file(gray(1)))
        assert without.status == 401
        assert without.headers["www-authenticate"] == "Bearer"
        assert "Authorization: Bearer TOKEN" in without.error
        assert client.detect(as_file(gray(1)), authorization="Bearer very-wrong").status == 401
        assert client.detect(as_file(gray(1)), authorization="Basic very-secret").status == 401
        assert client.detect(as_file(gray(1)), authorization="Bearer v\xe9ry").status == 401
        assert client.detect(as_file(gray(1)), authorization="Bearer very-secret").status == 200
        assert client.detect(b"", query="?threshold=7").status == 401
        for path in ("/metrics", "/v1/model"):
            assert client.ask("GET", path).status == 401
            assert client.ask("GET", path, authorization="Bearer very-secret").status == 200
        for path in ("/", "/health", "/openapi.json", "/page.css"):
            assert client.ask("GET", path).status == 200
    assert len(known.seen) == 1


def test_response_does_not_wait_for_acknowledgements(client: Client) -> None:
    """Delayed TCP acknowledgements take 40 ms, so without TCP_NODELAY no response would be faster."""
    connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=60)
    took = []
    for _ in range(40):
        start = time.perf_counter()
        connection.request("POST", "/v1/detect", as_file(gray(9)), {"Content-Type": "image/png"})
        connection.getresponse().read()
        took.append(time.perf_counter() - start)
    connection.close()
    assert min(took[20:]) < 0.035
