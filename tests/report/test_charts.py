"""Charts, number formats and tag positions of the report page."""

from __future__ import annotations

import re

import pytest

from detect.report.charts import ChartLayout, Line, box_bias_chart, legend, line_chart, nice_ticks
from detect.report.tables import count, fraction, headline, percent, plural, signed
from detect.report.thumbnails import place_tags


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (1, 80, [20, 40, 60, 80]),
        (0, 0.034, [0, 0.005, 0.01, 0.015, 0.02, 0.025, 0.03]),
        (0, 2.2, [0, 0.5, 1, 1.5, 2]),
        (3, 3, [3]),
    ],
)
def test_ticks_are_round(low: float, high: float, expected: list[float]) -> None:
    assert nice_ticks(low, high, 5) == expected


def test_curve_fills_the_plot_area() -> None:
    frame = ChartLayout(width=110, height=70, left=5, right=5, top=10, bottom=10)
    lines = [Line("a", [(0, 0), (1, 1)], "c1")]
    chart = line_chart("t", lines, x_range=(0, 1), y_range=(0, 1), x_label="x", frame=frame)
    assert 'd="M5.0 60.0L105.0 10.0"' in chart


def test_integer_axis_has_only_integer_ticks() -> None:
    line = Line("a", [(1, 0.5), (3, 1)], "c1")
    chart = line_chart("t", [line], x_range=(1, 3), y_range=(0, 1), x_label="epoch", integer_x=True)
    ticks = re.findall(r'text-anchor="middle">([^<]*)<', chart)
    assert ticks == ["1", "2", "3", "epoch"]


def test_names_in_charts_are_escaped() -> None:
    line = Line("<b>", [(0, 0), (1, 1)], "c1")
    chart = line_chart('"><b>', [line], x_range=(0, 1), y_range=(0, 1), x_label="<i>")
    assert "<b>" not in chart + legend([line])
    assert "<i>" not in chart


def test_box_bias_chart_shows_the_bias_and_clips_it() -> None:
    unbiased = box_bias_chart({"left": 0.0, "top": 0.0, "right": 0.0, "bottom": 0.0})
    assert 'x="10.0" y="10.0" width="36.0" height="20.0"' in unbiased
    clipped = box_bias_chart({"left": -99.0, "top": -99.0, "right": 99.0, "bottom": 99.0})
    assert 'x="1.0" y="1.0" width="54.0" height="38.0"' in clipped
    assert box_bias_chart(dict.fromkeys(("left", "top", "right", "bottom"))) == ""


def test_tags_avoid_the_border_and_each_other() -> None:
    boxes = [(20.0, 0.0, 60.0, 40.0), (20.0, 60.0, 60.0, 90.0), (22.0, 60.0, 62.0, 90.0), (180.0, 150.0, 200.0, 199.0)]
    styles = place_tags(boxes, ["patches 0.90"] * 4, [False] * 4, 200, 200)
    assert styles[0].endswith("top:0.00%")  # no space above the box: inside
    assert styles[1].endswith("bottom:70.00%")  # above the upper edge
    assert styles[2].endswith("top:30.00%")  # the position above is occupied: inside
    assert styles[3].startswith("left:max(0px,min(90.00%,100% - ")  # moved left to stay inside the image
    assert place_tags(boxes[:1], [""], [False], 200, 200) == [""]
    assert place_tags(boxes[1:2], ["missed"], [True], 200, 200)[0].endswith("top:45.00%")


def test_tag_of_a_box_outside_the_image_is_inside() -> None:
    (style,) = place_tags([(-50.0, -40.0, -10.0, -5.0)], ["far 0.10"], [False], 200, 200)
    assert style.startswith("left:max(0px,min(0.00%,")
    assert style.endswith("top:0")


def test_number_formats() -> None:
    assert (fraction(None), count(None), percent(None), signed(None)) == ("\N{EN DASH}",) * 4
    assert (fraction(0.74349), count(1440), percent(0.806), signed(3.14), signed(-0.42)) == (
        "0.743",
        "1,440",
        "81\N{NO-BREAK SPACE}%",
        "+3.1",
        "\N{MINUS SIGN}0.4",
    )
    assert signed(-0.01) == "0.0"
    assert (plural(1, "box", "boxes"), plural(2, "image")) == ("1 box", "2 images")


def test_headline_reports_found_objects_and_false_alarms() -> None:
    summary = {
        "boxes": 10,
        "images": 4,
        "detections": 12,
        "score_threshold": 0.42,
        "at_threshold": {"found": 8, "missed": 2, "false": 2, "recall": 0.8},
        "per_class": {"a": {"AP50": 0.9}, "b": {"AP50": 0.4}, "c": {"AP50": None}},
    }
    text = headline(summary).replace("\N{NO-BREAK SPACE}", " ")
    assert text == (
        "At a score of 0.420 or more, 8 of 10 objects are found (80 %) and 2 of 10 detections are false alarms (20 %). "
        "Best class: a (AP50 0.900); worst: b (0.400)."
    )
    assert headline({**summary, "detections": 0}) == "No detections for 10 labelled objects in 4 images."
