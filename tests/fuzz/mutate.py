"""Damaged copies of files, the same for the same seed: what disks, networks and people with a grudge make of them."""

from __future__ import annotations

import random
import re
import struct

NUMBERS = tuple(b"0 -1 1e308 -1e308 1e-320 NaN .nan Infinity 99999999999999999999 2147483648 4294967295 0.5".split())
WORDS = (
    *(b"null", b"true", b"[]", b"{}", b'""', b'"x"', b"'", b"!!int x", b"!!timestamp 2000-13-45", b"&a [*a]", b"<<: *a"),
    *(b"\\U99999999", b"\xff\xfe", b"\x00"),
)
TOKEN = re.compile(rb'-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?|"[^"\n]{0,40}"|[A-Za-z_]{2,30}')
FIELDS = ("<I", ">I", "<H", ">H", "<Q", ">Q")


def mutate(content: bytes, rng: random.Random) -> bytes:
    """A damaged copy.

    Args:
        content: of a file that is whole.
        rng: decides what happens to it.
    """
    header = _header(content)
    if header and rng.random() < 0.6:  # a header that is whole and says something else
        changed = _edit_text(header, rng)
        return struct.pack("<Q", len(changed)) + changed + content[8 + len(header) :]
    damaged = bytes(content)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        kinds = (
            _flip,
            _cut,
            _insert,
            _remove,
            _repeat,
            _field,
            _field,
            _edit_text if _is_text(content) else _flip,
            _nest if _is_text(content) else _field,
        )
        damaged = rng.choice(kinds)(damaged, rng)
    return damaged


def _header(content: bytes) -> bytes:
    """The JSON of a safetensors file; empty for other files."""
    if len(content) < 10 or content[8:9] != b"{":
        return b""
    (length,) = struct.unpack("<Q", content[:8])
    return content[8 : 8 + length] if length < len(content) else b""


def _is_text(content: bytes) -> bool:
    return content[:4096].isascii() and b"\x00" not in content[:4096]


def _place(content: bytes, rng: random.Random) -> int:
    """Headers are where it hurts most."""
    return rng.randrange(min(len(content), 600) if rng.random() < 0.6 else len(content)) if content else 0


def _flip(content: bytes, rng: random.Random) -> bytes:
    damaged = bytearray(content)
    for _ in range(rng.choice((1, 2, 8, 64))):
        if damaged:
            damaged[_place(content, rng)] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def _cut(content: bytes, rng: random.Random) -> bytes:
    return content[: _place(content, rng)]


def _insert(content: bytes, rng: random.Random) -> bytes:
    place = _place(content, rng)
    return content[:place] + rng.choice((rng.randbytes(rng.choice((1, 4, 100))), *WORDS)) + content[place:]


def _remove(content: bytes, rng: random.Random) -> bytes:
    place = _place(content, rng)
    return content[:place] + content[place + rng.choice((1, 4, 50, 1000)) :]


def _repeat(content: bytes, rng: random.Random) -> bytes:
    place, length = _place(content, rng), rng.choice((1, 8, 200))
    return content[:place] + content[place : place + length] * rng.choice((2, 50)) + content[place + length :]


def _field(content: bytes, rng: random.Random) -> bytes:
    """A length, a size or a number that lies."""
    kind = rng.choice(FIELDS)
    size = struct.calcsize(kind)
    value = (
        rng.choice((0, 1, 2, 255, 256**size - 1, 256**size // 2, 256**size // 2 - 1, rng.randrange(256**size), 65500, 30000)) % 256**size
    )
    place = _place(content, rng)
    return content[:place] + struct.pack(kind, value) + content[place + size :]


def _edit_text(content: bytes, rng: random.Random) -> bytes:
    """Another value for some of the words and numbers."""
    tokens = list(TOKEN.finditer(content))
    for token in sorted(rng.sample(tokens, min(len(tokens), rng.choice((1, 1, 2, 5)))), key=lambda token: -token.start()):
        other = rng.choice((*NUMBERS, *WORDS, content[slice(*rng.choice(tokens).span())], token[0] * 2, b"", b'"' + b"y" * 3000 + b'"'))
        content = content[: token.start()] + other + content[token.end() :]
    return content


def _nest(content: bytes, rng: random.Random) -> bytes:
    depth, place = rng.choice((50, 5000, 100_000)), _place(content, rng)
    opening, closing = rng.choice(((b"[", b"]"), (b'{"a":', b"}"), (b"- ", b""), (b"(", b")")))
    return content[:place] + opening * depth + b"1" + closing * depth + content[place:]
