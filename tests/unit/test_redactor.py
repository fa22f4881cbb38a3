"""Secrets become `***` wherever they stand, however their bytes are cut, and nothing else does."""

from __future__ import annotations

import base64
import json
import textwrap
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from workers.redaction import NOTHING_SECRET, Held, OtherForms, RedactedStream, Redactor
from workers.redaction_patterns import FORMS, unmasked

TOKEN = b"tok-4f9c1e77a0b2d3c5e6f7a8b9"
KEY = b"-----BEGIN KEY-----\nMIIEvQIBADANBgkqh\nkiG9w0BAQEFAASC\nBK=\n-----END KEY-----\n"
AWKWARD = 'p@ss "w\\rd/+%&=é$\t!'.encode()


def in_pieces(redactor: Redactor, pieces: list[bytes]) -> bytes:
    """Through a stream that is stored and restored between any two pieces."""
    stream, shown = RedactedStream(redactor), b""
    for piece in pieces:
        shown += stream.feed(piece)
        held = stream.held()
        stored = json.dumps(held.dump()) if held else None
        stream = RedactedStream(redactor, Held.load(json.loads(stored)) if stored else None)
    return shown + stream.finish()


def forms(value: bytes) -> list[bytes]:
    text = value.decode()
    return [
        value,
        quote(text, safe="").encode(),
        quote(text).encode(),
        quote_plus(text).encode(),
        json.dumps(text).encode(),
        json.dumps(text, ensure_ascii=False).encode(),
        *(base64.b64encode(before + value + after) for before in (b"", b"a", b"ab") for after in (b"", b"\n", b"xy")),
        *(base64.urlsafe_b64encode(before + value) for before in (b"", b"a", b"ab")),
    ]


EDGES = len("YX" + "l4eQ==")
"""Of base64 the characters at both ends hold the value's neighbours, too, and stay."""


@pytest.mark.parametrize("value", [TOKEN, AWKWARD])
def test_a_value_is_masked_in_every_form(value: bytes) -> None:
    for form in forms(value):
        shown = in_pieces(Redactor([value]), [b"before " + form + b" after\n"])
        assert b"***" in shown, form
        assert shown.startswith(b"before ")
        assert shown.endswith(b" after\n")
        assert len(shown) <= len(b"before *** after\n") + EDGES, (form, shown)


def test_a_value_that_is_no_text_is_masked() -> None:
    value = b"\xff\xfe\x00>?" + bytes(range(200, 230))
    assert in_pieces(Redactor([value]), [b"<" + value + b">"]) == b"<***>"
    assert in_pieces(Redactor([value]), [base64.urlsafe_b64encode(value)]).startswith(b"***")


@pytest.mark.parametrize("width", [8, 17, 64, 76])
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
def test_base64_is_masked_over_its_line_breaks(line_end: bytes, width: int) -> None:
    for before in range(70):
        encoded = base64.b64encode(b"x" * before + TOKEN + b"y" * 9)
        text = line_end.join(encoded[at : at + width] for at in range(0, len(encoded), width)) + line_end
        shown = in_pieces(Redactor([TOKEN]), [text])
        secret = base64.b64encode(bytes(before % 3) + TOKEN)[(0, 2, 3)[before % 3] : -4]
        left = shown.replace(b"\r", b"").replace(b"\n", b"")
        assert b"***" in left
        assert all(secret[at : at + 5] not in left for at in range(len(secret) - 4)), shown


def test_each_line_of_a_value_is_masked_by_itself() -> None:
    redactor = Redactor([KEY])
    for line in KEY.splitlines():
        shown = in_pieces(redactor, [b"> " + line + b" <\n"])
        assert shown == (b"> " + line + b" <\n" if len(line) < 4 else b"> *** <\n")
    assert in_pieces(redactor, [KEY]) == b"***\n"
    assert unmasked(KEY) == 1


@pytest.mark.parametrize("at", range(1, len(TOKEN)))
def test_a_value_cut_in_two_anywhere_is_masked(at: int) -> None:
    assert in_pieces(Redactor([TOKEN]), [b"a " + TOKEN[:at], TOKEN[at:] + b" b\n"]) == b"a *** b\n"


def test_one_of_many_values_is_found_at_every_place() -> None:
    """So many that they are looked for in blocks of bytes first."""
    values = [TOKEN[:16] + f"{number:04d}".encode() + TOKEN[::-1] for number in range(12)]
    redactor = Redactor(values)
    assert len(redactor.patterns) > 60
    for at in range(20):
        for value in (values[0], values[-1]):
            assert in_pieces(redactor, [b"-" * at + value + b"-" * at]) == b"-" * at + b"***" + b"-" * at
            encoded = base64.b64encode(b"-" * at + value + b"-" * 9)
            assert b"***" in in_pieces(redactor, [b"-" * at + encoded[: at + 9] + b"\n" + encoded[at + 9 :] + b"\n"])


def test_ordinary_lines_are_not_held_back() -> None:
    stream = RedactedStream(Redactor([TOKEN, KEY, AWKWARD]))
    for line in (b"hello\n", b"almost: tok\n", b"tok-4f9c1e77\n", b"MIIE\n", b"100 % done\r", b"\n"):
        assert stream.feed(line) == line
    assert stream.feed(b"prompt: ") == b"prompt: "
    assert stream.feed(b"t") == b""
    assert stream.feed(b"ime\n") == b"time\n"


def test_what_overlaps_is_one_mask_and_nothing_of_it_is_left() -> None:
    assert in_pieces(Redactor([b"abcdef", b"defghi"]), [b"xabcdefghiy"]) == b"x***y"
    assert in_pieces(Redactor([b"abab"]), [b"ababababx"]) == b"***x"
    assert in_pieces(Redactor([b"secret", b"secretary"]), [b"secretary!"]) == b"***!"
    assert in_pieces(Redactor([b"secret", b"secretary"]), [b"secretar!"]) == b"***ar!"


def test_the_beginning_of_a_value_at_the_end_is_masked_but_for_a_few_bytes() -> None:
    assert in_pieces(Redactor([TOKEN]), [b"x " + TOKEN[:-1]]) == b"x ***"
    assert in_pieces(Redactor([TOKEN]), [b"x " + TOKEN[:3]]) == b"x tok"


def test_short_values_are_not_masked_and_counted() -> None:
    assert in_pieces(Redactor([b"abc", b" \n"]), [b"abc \n"]) == b"abc \n"
    assert [unmasked(value) for value in (b"abc", b"abcd", b"abcd\nab\nc\n\n", b"")] == [1, 0, 2, 0]


def test_text_is_masked_and_what_holds_no_secret_is_the_same_object() -> None:
    redactor, text = Redactor([AWKWARD, TOKEN]), "clone failed: é \udcff"
    assert redactor.redact(text) is text
    assert redactor.redact(f"https://u:{TOKEN.decode()}@host/é") == "https://u:***@host/é"
    assert NOTHING_SECRET.redact(text) is text


def test_printing_a_redactor_shows_no_value() -> None:
    assert TOKEN.decode() not in f"{Redactor([TOKEN])!r} {Redactor([TOKEN])}"


def test_a_state_shows_no_byte_of_what_is_held_back() -> None:
    stream = RedactedStream(Redactor([TOKEN]))
    stream.feed(b"x" + TOKEN[:-1])
    held = stream.held()
    assert held is not None
    assert held.dump() == [FORMS, 0, len(TOKEN) - 1, [], 0]


def test_a_state_of_other_forms_is_refused() -> None:
    with pytest.raises(OtherForms):
        Held.load([FORMS + 1, 0, 3, [], 0])


SMALL = st.text("ab\n", min_size=4, max_size=9).map(str.encode)


@settings(max_examples=400, deadline=None)
@given(values=st.lists(SMALL, min_size=1, max_size=3), text=st.text("abY=\r\n", max_size=60), cuts=st.data())
@example([b"abab", b"baba"], "abababab", None)
def test_the_cut_of_the_bytes_makes_no_difference(values: list[bytes], text: str, cuts: st.DataObject | None) -> None:
    redactor, data = Redactor(values), text.encode()
    whole = in_pieces(redactor, [data])
    assert in_pieces(redactor, [data[at : at + 1] for at in range(len(data))]) == whole
    if cuts is not None:
        at = cuts.draw(st.integers(0, len(data)))
        assert in_pieces(redactor, [data[:at], data[at:]]) == whole
    for value in values:
        if len(value.strip()) >= 4:
            assert value.strip() not in whole


@settings(max_examples=200, deadline=None)
@given(before=st.binary(max_size=8), width=st.integers(4, 20), values=st.lists(SMALL, min_size=1, max_size=2))
def test_wrapped_base64_in_any_cut_is_the_same(before: bytes, width: int, values: list[bytes]) -> None:
    encoded = base64.b64encode(before + values[0] * 2)
    data = b"".join(line.encode() + b"\n" for line in textwrap.wrap(encoded.decode(), width))
    redactor = Redactor(values)
    whole = in_pieces(redactor, [data])
    for size in (1, 2, 3, 7):
        assert in_pieces(redactor, [data[at : at + size] for at in range(0, len(data), size)]) == whole
