"""The page of the server in a browser: images, boxes, threshold, table, downloads, keyboard, phone, token."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

from chromium import BROWSER, Chromium
from serving import CATEGORIES, Known, as_file, gray, served

pytestmark = pytest.mark.skipif(BROWSER is None, reason="needs Chromium to open the page")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    known = Known()
    known.gate.set()
    with served(known.look) as client:
        yield f"http://127.0.0.1:{client.port}/"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """An image with detections at 0.8 and 0.3, a 16-bit TIFF, and a truncated file."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "a.png").write_bytes(as_file(gray(204, width=80, height=60)))
    deep = np.tile(np.linspace(0, 65535, 80).astype(np.uint16), (60, 1))
    (folder / "b.tiff").write_bytes(as_file(deep, "TIFF"))
    (folder / "c.png").write_bytes(as_file(gray(1))[:60])
    return [folder / name for name in ("a.png", "b.tiff", "c.png")]


def filled(browser: Chromium, address: str, files: list[Path]) -> None:
    browser.open(address)
    browser.wait("!document.getElementById('open').hidden")
    browser.give_files("#files", files)
    browser.wait("document.querySelectorAll('#thumbs li').length === 3 && !document.querySelector('#thumbs .waits')")
    browser.wait("document.querySelectorAll('#stage .box').length > 0")


def texts(browser: Chromium, selector: str) -> Any:
    return browser.value(f"[...document.querySelectorAll({json.dumps(selector)})].map((each) => each.textContent)")


def kept(browser: Chromium, button: str) -> tuple[str, bytes]:
    """Name and content of the file that a button downloads, intercepted in the page."""
    browser.value(
        "window.kept = null; HTMLAnchorElement.prototype.click = function () { window.kept ??= [this.download]; };"
        "URL.createObjectURL = (blob) => { const read = new FileReader();"
        "read.onload = () => window.kept.push(read.result);"
        f"read.readAsDataURL(blob); return 'blob:caught'; }}; document.getElementById('{button}').click()"
    )
    browser.wait("window.kept !== null && window.kept.length === 2")
    name, address = browser.value("window.kept")
    return name, base64.b64decode(address.partition(",")[2])


def test_detections_are_shown_filtered_and_saved(address: str, files: list[Path]) -> None:
    with Chromium(1200, 900) as browser:
        filled(browser, address, files)
        assert texts(browser, "#subject span")[:2] == ["detector known", "2 classes"]
        assert texts(browser, "#thumbs .count") == ["2", "1", "!"]
        assert texts(browser, "#stage .tag") == ["bright 0.80", "dark 0.30"]
        assert texts(browser, "#table tbody tr:first-child > *") == ["bright", "0.800", "1.0", "2.0", "79.0", "58.0"]
        assert texts(browser, "#status")[0].startswith("2 detections · 80 \u00d7 60 px, 8 bits")
        assert texts(browser, "#at") == ["per class"]
        assert texts(browser, "#sum") == ["3 detections in 2 images"]

        # The box has the expected position in screen pixels.
        box, frame = (
            browser.value(f"(({{x, y, width, height}}) => [x, y, width, height])({each}.getBoundingClientRect())")
            for each in ("document.querySelector('#stage .box[data-at=\"0\"] rect:last-child')", "stage.firstChild")
        )
        scale = frame[2] / 80
        assert box == pytest.approx([frame[0] + scale, frame[1] + 2 * scale, 78 * scale, 56 * scale], abs=4)

        # The threshold redraws without a new request.
        asked = browser.value("performance.getEntriesByType('resource').length")
        browser.value("threshold.value = '0.35'; threshold.dispatchEvent(new Event('input'))")
        assert texts(browser, "#stage .tag") == ["bright 0.80"]
        assert texts(browser, "#at") == ["0.35"]
        for _ in range(5):
            browser.press("-")
        assert texts(browser, "#stage .tag") == ["bright 0.80", "dark 0.30"]
        browser.press("+")
        assert texts(browser, "#at") == ["0.31"]
        browser.value("document.getElementById('reset').click()")
        assert texts(browser, "#at") == ["per class"]
        assert browser.value("performance.getEntriesByType('resource').length") == asked

        # A row highlights its box, a column header sorts, a class can be hidden.
        browser.value("document.querySelector('#table tbody tr:nth-child(2) button').focus()")
        assert browser.value("document.querySelector('#stage .lit').dataset.at") == "1"
        browser.value("document.querySelector('#table thead th button').click()")
        assert browser.value("document.querySelector('#table [aria-sort]').textContent") == "class"
        browser.value("document.querySelector('#classes button').click()")
        assert texts(browser, "#stage .tag") == ["dark 0.30"]
        browser.value("document.querySelector('#classes button').click()")

        # The downloaded image and JSON.
        name, content = kept(browser, "picture")
        assert name == "a.detections.png"
        picture = Pillow.open(io.BytesIO(content))
        assert picture.size == (720, 540)
        assert np.asarray(picture.convert("L").crop((5, 14, 20, 30))).std() > 10, "an edge of the box"
        name, content = kept(browser, "all")
        saved = json.loads(content)
        assert name == "detections.json"
        assert saved["categories"] == list(CATEGORIES)
        assert [each["file"] for each in saved["images"]] == ["a.png", "b.tiff"]
        assert saved["images"][0]["detections"][0]["box_xyxy"] == [1, 2, 79, 58]
        assert "damaged or cut short" in saved["failed"][0]["reason"]

        # Arrow keys change the image; a TIFF is shown by its preview, a broken file by its error.
        browser.press("ArrowRight")
        assert texts(browser, "#name") == ["b.tiff"]
        assert "60 px, 16 bits" in texts(browser, "#status")[0]
        assert browser.value("document.querySelector('#stage img').naturalWidth") == 80
        browser.press("ArrowRight")
        assert "c.png: the image is damaged or cut short" in texts(browser, "#stage .refused")[0]
        browser.press("Delete")
        assert texts(browser, "#where") == ["2 of 2"]
        assert not [each for each in browser.console_errors if "422" not in each], browser.console_errors


def test_dropped_and_pasted_files_are_added(address: str, files: list[Path]) -> None:
    content = json.dumps(base64.b64encode(files[0].read_bytes()).decode())
    with Chromium() as browser:
        browser.open(address)
        browser.wait("!document.getElementById('open').hidden")
        for event, key, init in (("DragEvent", "drop", "dataTransfer"), ("ClipboardEvent", "paste", "clipboardData")):
            browser.value(
                f"(() => {{ const bytes = Uint8Array.from(atob({content}), (c) => c.charCodeAt(0));"
                "const data = new DataTransfer(); data.items.add(new File([bytes], 'x.png', { type: 'image/png' }));"
                f"dispatchEvent(new {event}('{key}', {{ {init}: data, bubbles: true, cancelable: true }})); }})()"
            )
        browser.wait("document.querySelectorAll('#thumbs .count').length === 2")
        assert texts(browser, "#thumbs .count") == ["2", "2"]
        assert browser.console_errors == []


def test_page_fits_a_phone_and_has_accessible_names(address: str, files: list[Path]) -> None:
    with Chromium(390, 844, phone=True, dark=True) as browser:
        filled(browser, address, files)
        assert browser.value("document.documentElement.scrollWidth") == 390
        assert browser.value("getComputedStyle(document.body).backgroundColor") == "rgb(14, 18, 24)"
        unnamed = (
            "[...document.querySelectorAll('button, input, svg[role]')].filter((each) => each.offsetParent !== null "
            "&& !each.textContent.trim() && !each.getAttribute('aria-label') && !each.labels?.length).length"
        )
        assert browser.value(unnamed) == 0
        assert browser.value("document.querySelector('#thumbs button').getAttribute('aria-label')") == "a.png: 2 found"


def test_a_token_can_be_entered(files: list[Path]) -> None:
    known = Known()
    known.gate.set()
    with served(known.look, token="a-token-of-mine") as client, Chromium() as browser:
        browser.open(f"http://127.0.0.1:{client.port}/")
        browser.wait("!document.getElementById('door').hidden")
        for token, opens in (("wrong-one", False), ("a-token-of-mine", True)):
            browser.value(f"token.value = '{token}'; document.querySelector('#door button').click()")
            browser.wait(
                "!document.getElementById('open').hidden" if opens else "!document.getElementById('error').hidden"
            )
        browser.give_files("#files", files[:1])
        browser.wait("document.querySelectorAll('#stage .box').length === 2")
