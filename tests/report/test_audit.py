"""The audit page: its texts and images, that it loads nothing external, and that it handles clean and broken data."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as Pillow

import detect as detect_package
from detect.datasets.audit import SHORT, AuditReport
from detect.datasets.convert import NO_BOXES, audit_sources
from detect.datasets.reading import IN_NO_PART
from detect.report.audit import audit_summary, enumerate_names, findings_by_kind, to_html
from detect.report.charts import histogram, log2_bin_edges, shares
from detect.structures import Finding
from labelled_data import pair, pixels, steel


@pytest.fixture
def faulty(tmp_path: Path) -> Path:
    """One scene in both parts whose copy lacks a label, a duplicate box, a box outside its image, a truncated image."""
    root = steel(tmp_path / "steel", classes=("crazing", "scratches"), each=8)
    pair(root, "crazing_3", [("crazing", 5, 5, 25, 25), ("crazing", 40, 10, 60, 30)], seed=11)
    pair(root, "crazing_7", [("crazing", 5, 5, 25, 25)], seed=11)
    copy = root / "IMAGES" / "crazing_7.png"
    Pillow.fromarray((pixels(11) * 0.9).astype("uint8")).save(copy)
    pair(root, "scratches_2", [("scratches", 5, 5, 25, 25)] * 2)
    pair(root, "scratches_5", [("scratches", 5, 5, 25, 25), ("scratches", 50, 40, 70, 60)])
    broken = root / "IMAGES" / "scratches_6.png"
    broken.write_bytes(broken.read_bytes()[:-300])
    return root


def page_of(root: Path, **kwargs: Any) -> str:
    report = audit_sources([root], split="train=1-4,val=5-8", **kwargs)
    return to_html(report, meta={"data": str(root)})


def section(page: str, name: str) -> str:
    return page.partition(f'<section id="{name}">')[2].partition("</section>")[0]


def test_page_shows_all_findings(faulty: Path) -> None:
    page = page_of(faulty)
    words = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page.partition("<main>")[2]))
    assert "2 errors would stop a conversion or training run. 1 scene is in more than one part." in words
    assert "1 label looks missing" in words
    pairs = section(page, "duplicates")
    assert "crazing_3.png" in pairs
    assert "crazing_7.png" in pairs
    assert 'class="card alert"' in pairs
    missing = section(page, "missing")
    assert "crazing is labelled in the near-duplicate" in missing
    assert "detect label-issues" in missing
    boxes = section(page, "boxes")
    assert boxes.index("box outside image") < boxes.index("duplicate box")  # errors first
    listing = section(page, "all")
    for row in ("scratches_6.png", "scratches_5.xml", "scratches_2.xml", "crazing_7.xml"):
        assert row in listing
    # one per image of each card: two duplicates, one with and one without the label, two faulty boxes
    assert page.count("data:image/jpeg;base64,") == 6


def test_parts_are_compared(faulty: Path) -> None:
    parts = section(page_of(faulty), "parts")
    assert parts.count('class="chart"') == 2  # one histogram per class
    assert re.search(r"crazing</dt><dd><div.*8 in 4|crazing</dt>.*5 in 4", parts)
    assert "not significant" in parts
    assert "permutation test" in parts
    single_part = section(to_html(audit_sources([faulty]), meta={}), "parts")
    assert "Contents" in single_part
    assert "permutation test" not in single_part


def test_page_loads_nothing_external_and_escapes_external_text(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>"
    root = steel(tmp_path / "steel", classes=("crazing",), each=3)
    pair(root, "crazing_4", [("&lt;script&gt;alert(1)&lt;/script&gt;", 5, 5, 25, 25)])
    page = to_html(audit_sources([root]), meta={"data": evil})
    assert evil not in page
    assert "&lt;script&gt;alert(1)" in page
    assert page.count("<script") == 1
    assert not re.search(r"https?://|@import|url\(", re.sub(r"base64,[^\"]*", "", page))
    for piece in ("default-src 'none'", "prefers-color-scheme: dark", "@media print", 'name="viewport"'):
        assert piece in page
    assert 'tabindex="0"' in page or "figure" not in section(page, "duplicates")


def test_page_of_clean_data_and_of_data_without_boxes(tmp_path: Path) -> None:
    page = to_html(audit_sources([steel(tmp_path / "steel")]), meta={})
    assert "No findings." in page
    assert "No two images show the same scene" in page
    bare = tmp_path / "bare"
    for n in range(3):
        pair(bare, f"plain_{n}")
    assert "image without objects" in to_html(audit_sources([bare]), meta={})


def test_boxes_of_deleted_images_are_still_shown(faulty: Path) -> None:
    report = audit_sources([faulty], split="train=1-4,val=5-8")
    for path in (faulty / "IMAGES").iterdir():
        path.unlink()
    page = to_html(report, meta={})
    assert "data:image" not in page
    assert "6 images not shown" in page
    assert "no image" in page


def test_unwritable_page_is_an_error(faulty: Path, detect: Callable[..., Any]) -> None:
    outcome = detect("audit", faulty, "--html", faulty / "IMAGES" / "crazing_1.png" / "page.html")
    assert outcome.code == 2
    assert "can't be written" in outcome.err or "Not a directory" in outcome.err


def test_command_writes_the_page_and_prints_only_json(faulty: Path, tmp_path: Path, detect: Callable[..., Any]) -> None:
    page = tmp_path / "out" / "audit.html"
    outcome = detect("audit", faulty, "--split", "train=1-4,val=5-8", "--html", page, "--json")
    assert outcome.code == 2
    assert json.loads(outcome.out)["counts"]["label looks missing"] == 1
    assert "wrote" in outcome.err
    assert "train=1-4,val=5-8" in page.read_text()


def test_number_of_cards_and_image_bytes_are_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from detect.report import audit as audit_page

    monkeypatch.setattr(audit_page, "_MAX_CARDS", 2)
    root = tmp_path / "steel"
    for n in range(5):
        pair(root, f"crazing_{n}", [("crazing", 5, 5, 25, 25)] * 2)
    page = to_html(audit_sources([root]), meta={})
    assert page.count('<figure class="card"') == 2
    assert "3 cards left out" in page
    monkeypatch.setattr(audit_page, "_MAX_AUDIT_BYTES", 1)
    assert "1 image not shown" in to_html(audit_sources([root]), meta={})


def test_summary_sentences(faulty: Path) -> None:
    report = audit_sources([faulty], split="train=1-4,val=5-8")
    rows = findings_by_kind(report)
    assert [row.severity for row in rows] == sorted(
        (row.severity for row in rows), key=["error", "warning", "note"].index
    )
    assert all(row.meaning for row in rows)
    assert "No difference between the parts is statistically significant" in audit_summary(report)
    assert audit_summary(replace(report, parts={}, findings=())) == "No errors were found."
    assert enumerate_names(["a"]) == "a"
    assert enumerate_names(["a", "b", "c"]) == "a, b and c"
    assert enumerate_names(list("abcdefgh")) == "a, b, c, d, e and 3 more"


def test_every_kind_of_finding_is_explained() -> None:
    package = Path(detect_package.__file__).parent
    source = "".join(path.read_text(encoding="utf-8") for path in package.rglob("*.py"))
    names = {
        *re.findall(r"Finding\(\s*\"([^\"]+)\"", source),
        "box outside image",
        "label looks missing",
        "parts differ",
        SHORT,
        NO_BOXES,
        IN_NO_PART,
    }
    assert len(names) > 25
    report = AuditReport({}, tuple(Finding(name, "note", Path("a"), "") for name in names))
    assert [row.name for row in findings_by_kind(report) if not row.meaning] == []


def test_histograms_contain_every_value() -> None:
    for values in ([5.0], [3.0, 700.0], [1.0, 64.0], [0.3, 30000.0]):
        edges = log2_bin_edges(values)
        assert edges[0] <= min(values)
        assert edges[-1] > max(values)
        assert 2 <= len(edges) <= 17
        assert sum(shares(values, edges)) == pytest.approx(1)
    chart = histogram("<b>", [8, 16, 32], [("train", [0.5, 0.5]), ("val", [0, 1.0])], x_label="px")
    assert chart.count('class="bar') == 3
    assert "<b>" not in chart
    assert "val: 100.0 % from 16 to 32 px" in chart
    assert histogram("none", [8, 16], [], x_label="px").startswith("<svg")
