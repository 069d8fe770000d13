"""Mutations of files: random changes of bytes and text, and unexpected values in JSON and YAML."""

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


def _odd_values(rng: random.Random) -> Any:
    nested: Any = []
    for _ in range(rng.choice([3, 60, 900])):
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
    return rng.choice([*plain, *_WORDS])


def mutate_bytes(data: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """One to four random changes of bytes; inserted pieces come from the files ``others``."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        # errors in headers are more varied, so change them more often
        end = len(changed) if rng.random() < 0.6 else min(len(changed), 200)
        at, size = rng.randrange(end + 1), rng.choice([1, 2, 4, 8, 64, 1000])
        other = rng.choice(others)
        start = rng.randrange(len(other) or 1)
        kind = rng.randrange(8)
        if kind == 0 and end:
            changed[at % end] ^= 1 << rng.randrange(8)
        elif kind == 1 and end:
            changed[at % end] = rng.randrange(256)
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
            changed[at : at + 4] = rng.choice([b"\xff" * 4, b"\x7f\xff\xff\xff", b"\x00" * 4, b"\x00\x01\x86\xa0"])
    return bytes(changed)


def mutate_text(data: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """Replace, repeat, remove or nest numbers, words and lines; sometimes change bytes."""
    kind = rng.randrange(8)
    if kind == 0:
        return mutate_bytes(data, others, rng)
    text = data.decode("utf-8", errors="replace")
    numbers = list(_NUMBER.finditer(text))
    if kind in (1, 2) and numbers:
        match = rng.choice(numbers)
        text = text[: match.start()] + rng.choice(_HUGE) + text[match.end() :]
    elif kind == 3:
        at = rng.randrange(len(text) + 1)
        text = text[:at] + rng.choice(_WORDS) + text[at:]
    elif kind in (4, 5):
        pieces = re.split(r"(?<=[\n>,])", text)
        at = rng.randrange(len(pieces))
        pieces[at : at + 1] = [] if kind == 4 else [pieces[at]] * rng.choice([2, 3, 50])
        text = "".join(pieces)
    elif kind == 6:
        opening, closing = rng.choice([("[", "]"), ("<a>", "</a>"), ("{a: ", "}"), ("<object>", "</object>")])
        depth, at = rng.choice([1, 20, 150, 900, 20_000]), rng.randrange(len(text) + 1)
        text = text[:at] + opening * depth + closing * rng.choice([0, depth]) + text[at:]
    else:
        words = re.findall(r"[A-Za-z_]{3,}", text) or ["x"]
        text = text.replace(rng.choice(words), rng.choice([*words, *_WORDS]), rng.choice([1, -1]))
    return text.encode("utf-8", errors="surrogatepass")


def mutate_tree(tree: Any, rng: random.Random) -> Any:
    """A copy of plain values with one to three of them replaced, removed or repeated."""
    copy = json.loads(json.dumps(tree))
    for _ in range(rng.randint(1, 3)):
        value, key = copy, None
        while isinstance(value, (dict, list)) and value and (key is None or rng.random() < 0.8):
            keys = list(value) if isinstance(value, dict) else range(len(value))
            holder, key = value, rng.choice(list(keys))
            value = holder[key]
        if key is None:
            continue
        kind = rng.randrange(4)
        if kind == 0:
            del holder[key]
        elif kind == 1 and isinstance(holder, list):
            holder.insert(key, holder[key])
        elif kind == 2 and isinstance(value, (int, float)):
            holder[key] = rng.choice([-value, value + 1, value * 1e6, str(value), [value]])
        else:
            holder[key] = _odd_values(rng)
    return copy


def mutate_json(data: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """Mutate the values, or sometimes the text."""
    if rng.random() < 0.4:
        return mutate_text(data, others, rng)
    return json.dumps(mutate_tree(json.loads(data), rng), ensure_ascii=rng.random() < 0.5).encode(
        "utf-8", errors="surrogatepass"
    )


def mutate_png(data: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """Mutate the bytes, usually with corrected checksums, because readers reject wrong checksums first."""
    changed = bytearray(mutate_bytes(data, others, rng))
    at = 8
    while rng.random() < 0.97 and at + 12 <= len(changed):
        size = int.from_bytes(changed[at : at + 4], "big")
        end = at + 8 + size
        if end + 4 > len(changed):
            break
        changed[end : end + 4] = zlib.crc32(changed[at + 4 : end]).to_bytes(4, "big")
        at = end + 4
    return bytes(changed)


def mutate_checkpoint(data: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """Mutate the bytes, or write a valid file with other values in the description of the network."""
    if rng.random() < 0.5:
        return mutate_bytes(data, others, rng)
    import torch

    content = torch.load(io.BytesIO(data), weights_only=True)
    plain = {key: value for key, value in content.items() if key != "weights"}
    changed, file = mutate_tree(plain, rng), io.BytesIO()
    try:
        torch.save({"weights": content["weights"], **changed}, file)
    except (RecursionError, UnicodeError):  # the value can't be saved
        return mutate_bytes(data, others, rng)
    return file.getvalue()


Mutation = Callable[[bytes, list[bytes], random.Random], bytes]
