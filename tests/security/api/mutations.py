"""Manifests that were good until somebody cut, repeated and filled them with what has broken parsers before."""

from __future__ import annotations

import json
import random
from pathlib import Path

import yaml

EXAMPLES = [path.read_bytes() for path in sorted((Path(__file__).parents[3] / "examples").glob("*.yaml"))]
SEEDS = [*EXAMPLES, *(json.dumps(yaml.safe_load(text)).encode() for text in EXAMPLES)]
TOKENS = [
    b"&a ", b"*a", b"<<: ", b"!!python/object:os.system ", b"!x ", b"%TAG ! tag:x\n", b"%YAML 9.9\n", b"---\n",
    b"- ", b"? ", b": ", b"[", b"]", b"{", b"}", b"| ", b"> ", b'"', b"'", b"\\", b"#", b",", b"\t", b"\n", b"\r",
    b"\0", b"\x85", b"\xe2\x80\xa8", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\xff", b"\\ud800", b"\\u0000", b"\\UFFFFFFFF",
    b"1" * 400, b"-1e999", b"NaN", b".inf", b"0x" + b"f" * 30, b"null", b"true", b"~", b"version", b"metadata:\n",
    b"[" * 70, b'{"a":' * 70, b"- " * 70, b"? " * 70, b"...\n", b"  ",
]  # fmt: skip
LONGEST = 8192


def mutated(chance: random.Random) -> bytes:
    """Return a manifest with up to eight changes: a part removed, repeated, overwritten or put in."""
    data = chance.choice(SEEDS)
    for _ in range(chance.randint(1, 8)):
        start = chance.randint(0, len(data))
        stop = min(len(data), start + chance.choice((1, 2, 8, 64, 1024)))
        inserted = chance.choice((b"", chance.choice(TOKENS), data[start:stop] * 3, chance.randbytes(3)))
        data = data[:start] + inserted + data[stop if chance.random() < 0.5 else start :]
    return data[:LONGEST]
