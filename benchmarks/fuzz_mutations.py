"""Ways to damage a file: bytes and text at random, and values of JSON and YAML replaced by what nobody expects."""

from __future__ import annotations

import io
import json
import random
import re
import zlib
from collections.abc import Callable
from typing import Any

_HUGE = ["NaN", "-NaN", "Infinity", "-1e999", "1e999", "9" * 400, "-0", "1e-320", "0x10", "1_0", "२५", "", "-1", "1e9"]
_WORDS = [
    "\u202e",
    "\x00",
    "\x1b[2J",
    "é\u0301",
    "\ud83d",
    "😀" * 50,
    "../../etc/passwd",
    "C:\\a",
    "<![CDATA[",
    "&a;",
    "%s",
]
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def _odd_values(chance: random.Random) -> Any:
    nested: Any = []
    for _ in range(chance.choice([3, 60, 900])):
        nested = [nested]
    plain = [
        None,
        True,
        False,
        [],
        {},
        "x",
        "",
        -1,
        0,
        10**30,
        1.5,
        float("nan"),
        float("inf"),
        [[1]],
        {"id": 1},
        nested,
    ]
    return chance.choice([*plain, *_WORDS])


def damaged_bytes(data: bytes, others: list[bytes], chance: random.Random) -> bytes:
    """One to four random changes of bytes; ``others`` are files that pieces come from."""
    changed = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        # headers break in more ways than what follows them
        end = len(changed) if chance.random() < 0.6 else min(len(changed), 200)
        at, size = chance.randrange(end + 1), chance.choice([1, 2, 4, 8, 64, 1000])
        other = chance.choice(others)
        start = chance.randrange(len(other) or 1)
        kind = chance.randrange(8)
        if kind == 0 and end:
            changed[at % end] ^= 1 << chance.randrange(8)
        elif kind == 1 and end:
            changed[at % end] = chance.randrange(256)
        elif kind == 2:
            del changed[at:]
        elif kind == 3:
            del changed[at : at + size]
        elif kind == 4:
            changed[at:at] = changed[at : at + size]
        elif kind == 5:
            changed[at:at] = other[start : start + size]
        elif kind == 6:
            changed[at : at + size] = other[start : start + size]
        else:
            changed[at : at + 4] = chance.choice([b"\xff" * 4, b"\x7f\xff\xff\xff", b"\x00" * 4, b"\x00\x01\x86\xa0"])
    return bytes(changed)


def damaged_text(data: bytes, others: list[bytes], chance: random.Random) -> bytes:
    """Numbers, words and lines replaced, repeated, taken out, or put into each other; sometimes bytes."""
    kind = chance.randrange(8)
    if kind == 0:
        return damaged_bytes(data, others, chance)
    text = data.decode("utf-8", errors="replace")
    numbers = list(_NUMBER.finditer(text))
    if kind in (1, 2) and numbers:
        found = chance.choice(numbers)
        text = text[: found.start()] + chance.choice(_HUGE) + text[found.end() :]
    elif kind == 3:
        at = chance.randrange(len(text) + 1)
        text = text[:at] + chance.choice(_WORDS) + text[at:]
    elif kind in (4, 5):
        pieces = re.split(r"(?<=[\n>,])", text)
        at = chance.randrange(len(pieces))
        pieces[at : at + 1] = [] if kind == 4 else [pieces[at]] * chance.choice([2, 3, 50])
        text = "".join(pieces)
    elif kind == 6:
        opening, closing = chance.choice([("[", "]"), ("<a>", "</a>"), ("{a: ", "}"), ("<object>", "</object>")])
        depth, at = chance.choice([1, 20, 150, 900, 20_000]), chance.randrange(len(text) + 1)
        text = text[:at] + opening * depth + closing * chance.choice([0, depth]) + text[at:]
    else:
        words = re.findall(r"[A-Za-z_]{3,}", text) or ["x"]
        text = text.replace(chance.choice(words), chance.choice([*words, *_WORDS]), chance.choice([1, -1]))
    return text.encode("utf-8", errors="surrogatepass")


def damaged_tree(tree: Any, chance: random.Random) -> Any:
    """A copy of plain values with one to three of them replaced, taken out or repeated."""
    copy = json.loads(json.dumps(tree))
    for _ in range(chance.randint(1, 3)):
        place, key = copy, None
        while isinstance(place, (dict, list)) and place and (key is None or chance.random() < 0.8):
            inside = list(place) if isinstance(place, dict) else range(len(place))
            holder, key = place, chance.choice(list(inside))
            place = holder[key]
        if key is None:
            continue
        kind = chance.randrange(4)
        if kind == 0:
            del holder[key]
        elif kind == 1 and isinstance(holder, list):
            holder.insert(key, holder[key])
        elif kind == 2 and isinstance(place, (int, float)):
            holder[key] = chance.choice([-place, place + 1, place * 1e6, str(place), [place]])
        else:
            holder[key] = _odd_values(chance)
    return copy


def damaged_json(data: bytes, others: list[bytes], chance: random.Random) -> bytes:
    """As a tree, else as text."""
    if chance.random() < 0.4:
        return damaged_text(data, others, chance)
    return json.dumps(damaged_tree(json.loads(data), chance), ensure_ascii=chance.random() < 0.5).encode(
        "utf-8", errors="surrogatepass"
    )


def damaged_png(data: bytes, others: list[bytes], chance: random.Random) -> bytes:
    """As bytes, often with checksums that hold again: else no damage would get past them."""
    changed = bytearray(damaged_bytes(data, others, chance))
    at = 8
    while chance.random() < 0.97 and at + 12 <= len(changed):
        size = int.from_bytes(changed[at : at + 4], "big")
        end = at + 8 + size
        if end + 4 > len(changed):
            break
        changed[end : end + 4] = zlib.crc32(changed[at + 4 : end]).to_bytes(4, "big")
        at = end + 4
    return bytes(changed)


def damaged_checkpoint(data: bytes, others: list[bytes], chance: random.Random) -> bytes:
    """As bytes, or whole again with other values in what describes the network."""
    if chance.random() < 0.5:
        return damaged_bytes(data, others, chance)
    import torch

    content = torch.load(io.BytesIO(data), weights_only=True)
    plain = {key: value for key, value in content.items() if key != "weights"}
    changed, file = damaged_tree(plain, chance), io.BytesIO()
    try:
        torch.save({"weights": content["weights"], **changed}, file)
    except (RecursionError, UnicodeError):  # nobody can write it
        return damaged_bytes(data, others, chance)
    return file.getvalue()


Mutation = Callable[[bytes, list[bytes], random.Random], bytes]
