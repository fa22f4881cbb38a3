"""Texts → plain data: what is read, what is refused, and where the refusal points."""

from __future__ import annotations

import contextlib
import json
import signal
from collections.abc import Iterator
from types import FrameType
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator import documents
from orchestrator.documents import yaml_reader
from orchestrator.documents.parts import MAX_BYTES, Position

YAML = "application/yaml"
JSON = "application/json"


@pytest.fixture(autouse=True)
def _hang_guard() -> Iterator[None]:
    """End a test that hangs, as several of these texts make other parsers do."""

    def hung(_signal: int, _frame: FrameType | None) -> None:
        pytest.fail("the document took longer than the hang guard allows")

    before = signal.signal(signal.SIGALRM, hung)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def refusal(body: bytes | str, content_type: str = YAML) -> tuple[documents.Problem, ...]:
    with pytest.raises(documents.InvalidDocument) as caught:
        documents.read(body if isinstance(body, bytes) else body.encode(), content_type)
    return caught.value.problems


MERGE_BOMB = "x0: &x0 {a: 1}\n" + "".join(
    f"x{n}: &x{n} {{<<: [{','.join([f'*x{n - 1}'] * 40)}]}}\n" for n in range(1, 6)
)
LAUGHS = "a: &a [x, x]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [{','.join([f'*{chr(97 + n)}'] * 9)}]\n" for n in range(9)
)
TAG_LINES = "".join(f"%TAG !t{n}! tag:x\n" for n in range(100_000)) + "--- a"

ATTACKS = [
    pytest.param("[" * 100_000, YAML, "nesting", (1, 65), id="100,000 brackets in YAML"),
    pytest.param("[" * 100_000, JSON, "nesting", (1, 65), id="100,000 brackets in JSON"),
    pytest.param('{"a":' * 100_000, JSON, "nesting", (1, 321), id="100,000 objects in JSON"),
    pytest.param("- " * 100_000, YAML, "nesting", (1, 129), id="100,000 dashes"),
    pytest.param("? " * 100_000, YAML, "key_not_scalar", (1, 3), id="100,000 complex keys"),
    pytest.param(LAUGHS, YAML, "anchor", (1, 4), id="billion laughs"),
    pytest.param(MERGE_BOMB, YAML, "anchor", (1, 5), id="merge bomb"),
    pytest.param("&a [*a]", YAML, "anchor", (1, 1), id="cycle"),
    pytest.param("*a : b", YAML, "alias", (1, 1), id="alias as a key"),
    pytest.param("a: !!python/object/apply:os.system [id]", YAML, "tag", (1, 4), id="python tag"),
    pytest.param("a: !!str 1", YAML, "tag", (1, 4), id="harmless tag"),
    pytest.param("a: ! 1", YAML, "tag", (1, 4), id="non-specific tag"),
    pytest.param("!!map {a: 1}", YAML, "tag", (1, 1), id="tag of a map"),
    pytest.param("%TAG !e! tag:x\n---\na: 1", YAML, "directive", (1, 1), id="tag directive"),
    pytest.param(TAG_LINES, YAML, "directive", None, id="100,000 tag directives"),
    pytest.param("a: 1\n---\nb: 2", YAML, "documents", (2, 1), id="two documents"),
    pytest.param("- {a: b}\n" * 230_000, YAML, "nodes", (6667, 4), id="2 MiB of small maps in YAML"),
    pytest.param("[" + '{"a":1},' * 230_000 + "1]", JSON, "nodes", (1, 53_331), id="2 MiB of small maps in JSON"),
    pytest.param("", YAML, "empty", None, id="nothing"),
    pytest.param(" \n ", JSON, "empty", None, id="blanks"),
    pytest.param("# only a comment\n", YAML, "empty", None, id="a comment"),
    pytest.param("---\n", YAML, "empty", None, id="an empty document"),
    pytest.param("a: .inf", YAML, "number", (1, 4), id="infinity in YAML"),
    pytest.param("a: -.INF", YAML, "number", (1, 4), id="negative infinity in YAML"),
    pytest.param("a: .nan", YAML, "number", (1, 4), id="NaN in YAML"),
    pytest.param("a: 1e999", YAML, "number", (1, 4), id="overflow in YAML"),
    pytest.param('{"a": NaN}', JSON, "number", (1, 7), id="NaN in JSON"),
    pytest.param('{"a": -Infinity}', JSON, "number", (1, 7), id="infinity in JSON"),
    pytest.param('{"a": 1e999}', JSON, "number", (1, 7), id="overflow in JSON"),
    pytest.param('{"a": ' + "1" * 5000 + "}", JSON, "number", (1, 7), id="5,000 digits in JSON"),
    pytest.param("a: " + "1" * 5000, YAML, "number", (1, 4), id="5,000 digits in YAML"),
    pytest.param("a: 9223372036854775808", YAML, "number", (1, 4), id="2^63"),
    pytest.param("a: 0x" + "f" * 5000, YAML, "number", (1, 4), id="5,000 hex digits"),
    pytest.param('{"a": ["\\ud800"]}', JSON, "lone_surrogate", (1, 8), id="lone surrogate in JSON"),
    pytest.param('{"\\udfff": 1}', JSON, "lone_surrogate", (1, 1), id="lone surrogate in a key"),
    pytest.param('a: "\\ud800"', YAML, "syntax", (1, 7), id="lone surrogate in YAML"),
    pytest.param(b'a: "\xed\xa0\x80"', YAML, "encoding", (1, 5), id="raw surrogate"),
    pytest.param('{"a": "\\u0000"}', JSON, "nul_character", (1, 7), id="NUL in JSON"),
    pytest.param('a: "\\0"', YAML, "nul_character", (1, 4), id="NUL in YAML"),
    pytest.param('"\\0": a', YAML, "nul_character", (1, 1), id="NUL in a key"),
    pytest.param(b"a: \0", YAML, "syntax", (1, 4), id="raw NUL in YAML"),
    pytest.param(b'{"a": "\0"}', JSON, "syntax", (1, 8), id="raw NUL in JSON"),
    pytest.param("a: \x07", YAML, "syntax", (1, 4), id="control character"),
    pytest.param("a: 1".encode("utf-16"), YAML, "encoding", (1, 1), id="UTF-16"),
    pytest.param(b"a: 1\nb: \xe9x", YAML, "encoding", (2, 4), id="Latin-1"),
    pytest.param("1: a", YAML, "key_not_text", (1, 1), id="number as a key"),
    pytest.param("true: a", YAML, "key_not_text", (1, 1), id="boolean as a key"),
    pytest.param("? [a]\n: b", YAML, "key_not_scalar", (1, 3), id="list as a key"),
    pytest.param("a:\n\tb: 1", YAML, "syntax", (2, 1), id="tab"),
    pytest.param("a: b: c", YAML, "syntax", (1, 5), id="two colons"),
    pytest.param('{"a": 1,}', JSON, "syntax", (1, 9), id="trailing comma"),
    pytest.param('["' + '\\"' * 900_000, JSON, "syntax", (1, 2), id="unclosed string"),
]


@pytest.mark.parametrize(("body", "content_type", "validation", "place"), ATTACKS)
def test_an_attack_is_refused_by_name_and_place_and_the_next_text_is_read(
    body: bytes | str, content_type: str, validation: str, place: tuple[int, int] | None
) -> None:
    first = refusal(body, content_type)[0]
    assert first.validation == validation
    assert first.position == place
    assert first.message.count(";") >= 1
    assert len(first.message) < 400
    assert documents.read(b"a: 1", YAML).data == {"a": 1}


@pytest.mark.parametrize(
    ("body", "content_type"),
    [("vm:\n  cpus: 1\n  cpus: 64\n", YAML), ('{"vm":\n  {"cpus": 1,\n  "cpus": 64}}', JSON)],
    ids=["YAML", "JSON"],
)
def test_a_duplicate_key_is_refused_with_both_lines(body: str, content_type: str) -> None:
    (problem,) = refusal(body, content_type)
    assert (problem.validation, problem.path, problem.position) == ("duplicate_key", ("vm", "cpus"), (3, 3))
    assert "in line 2 and in line 3" in problem.message


def test_keys_that_differ_only_in_their_quotes_are_duplicates() -> None:
    assert refusal("a: 1\n'a': 2\n\"\\x61\": 3")[0].validation == "duplicate_key"
    assert refusal('{"a": 1, "\\u0061": 2}', JSON)[0].validation == "duplicate_key"


def test_every_tag_anchor_and_duplicate_is_named_at_once() -> None:
    problems = refusal("a: &x 1\nb: *x\nc: !!int 1\na: 2\n1: x")
    assert [problem.validation for problem in problems] == [
        "anchor",
        "alias",
        "tag",
        "duplicate_key",
        "key_not_text",
    ]


def test_a_refusal_names_at_most_a_hundred_problems() -> None:
    assert len(refusal("- &a x\n" * 5000)) == 100
    assert len(refusal("{" + ",".join(['"a": 1'] * 5000) + "}", JSON)) == 100
    assert len(refusal("[" + ",".join(['"\\u0000"'] * 5000) + "]", JSON)) == 100


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("Yes", "Yes"),
        ("on", "on"),
        ("22:22", "22:22"),
        ("12:30:45", "12:30:45"),
        ("2026-01-29", "2026-01-29"),
        ("010", "010"),
        ("-010", "-010"),
        ("00.5", "00.5"),
        ("1_000", "1_000"),
        ("0b11", "0b11"),
        ("=", "="),
        ("<<", "<<"),
        ("٣", "٣"),
        ("", None),
        ("~", None),
        ("null", None),
        ("nUll", "nUll"),
        ("true", True),
        ("FALSE", False),
        ("0", 0),
        ("-7", -7),
        ("+7", 7),
        ("9223372036854775807", (1 << 63) - 1),
        ("0o17", 15),
        ("0x1F", 31),
        ("1.10", 1.1),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("5.", 5.0),
        (".", "."),
        ("'1'", "1"),
        ("'true'", "true"),
    ],
)
def test_scalars_follow_the_core_schema_of_yaml_1_2(text: str, value: Any) -> None:
    read = documents.read(f"a: {text}".encode(), YAML).data["a"]
    assert read == value
    assert type(read) is type(value)


def test_the_text_of_an_unquoted_number_is_kept_beside_its_value() -> None:
    document = documents.read(b"a: 1.10\nb: '1.10'\nc: [true, null, x]", YAML)
    assert document.plain == {("a",): "1.10", ("c", 0): "true"}


@pytest.mark.parametrize("content_type", [YAML, JSON])
def test_values_and_keys_know_their_line_and_column(content_type: str) -> None:
    text = '{"é": "ü",\n "b": [1,\n  {"c": "}\\"{,:"}], "d": {}, "e": []}'
    positions = documents.read(text.encode(), content_type).locate()
    assert {path: positions.value(path) for path in positions.value_places} == {
        (): (1, 1),
        ("é",): (1, 7),
        ("b",): (2, 7),
        ("b", 0): (2, 8),
        ("b", 1): (3, 3),
        ("b", 1, "c"): (3, 9),
        ("d",): (3, 26),
        ("e",): (3, 35),
    }
    assert positions.key(("b", 1, "c")) == Position(3, 4)
    assert positions.key(("e",)) == (3, 30)
    assert positions.key(("b", 0)) is None


def test_a_byte_order_mark_is_skipped() -> None:
    document = documents.read(b"\xef\xbb\xbfa: x", YAML)
    assert document.data == {"a": "x"}
    assert document.locate().key(("a",)) == (1, 1)
    assert documents.read(b'\xef\xbb\xbf{"a": 1}', JSON).data == {"a": 1}


def test_a_yaml_1_2_directive_is_accepted() -> None:
    assert documents.read(b"%YAML 1.2\n---\na: 1\n...\n", YAML).data == {"a": 1}


def test_a_surrogate_pair_in_json_is_one_character() -> None:
    assert documents.read(b'{"a": "\\ud83d\\ude00"}', JSON).data == {"a": "\U0001f600"}


def test_commas_and_brackets_inside_a_long_text_are_no_nodes() -> None:
    text = "[{,:" * 100_000
    assert documents.read(f'{{"a": "{text}"}}'.encode(), JSON).data == {"a": text}


def test_a_document_of_the_allowed_depth_and_size_is_read() -> None:
    for content_type in (YAML, JSON):
        deepest = documents.read(b"[" * 64 + b"]" * 64, content_type).data
        depth = 0
        while deepest:
            deepest, depth = deepest[0], depth + 1
        assert depth == 63
        widest = documents.read(b"[" + b",".join([b"1"] * 19_999) + b"]", content_type).data
        assert len(widest) == 19_999
        assert refusal("[" + ",".join(["1"] * 20_000) + "]", content_type)[0].validation == "nodes"


def test_a_body_over_2_mib_is_too_large_and_one_of_2_mib_is_not() -> None:
    with pytest.raises(documents.DocumentTooLarge, match="2,097,153 bytes: at most 2,097,152"):
        documents.read(b"a" * (MAX_BYTES + 1), YAML)
    assert len(documents.read(b'"' + b"a" * (MAX_BYTES - 2) + b'"', JSON).data) == MAX_BYTES - 2


@pytest.mark.parametrize(
    "content_type",
    [
        "application/yaml",
        "text/yaml",
        "application/x-yaml",
        "Application/YAML; charset=UTF-8",
        'text/yaml;charset="utf-8"',
    ],
)
def test_the_types_of_yaml_are_accepted_with_parameters(content_type: str) -> None:
    assert documents.read(b"a: no", content_type).data == {"a": "no"}


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "text/plain",
        "application/xml",
        "application/yaml+x",
        "yaml",
        "application/json; charset=latin-1",
        "*/*",
    ],
)
def test_any_other_content_type_is_unsupported(content_type: str) -> None:
    with pytest.raises(documents.UnsupportedContentType, match="send one of application/yaml"):
        documents.read(b"{}", content_type)


@pytest.mark.parametrize(
    "text", ["[" * 1000, "&a [*a]", "a: !x 1", "a: 1\na: 2", 'a: "\\ud800"', 'a: "\\UFFFFFFFF"', "a: \x07"]
)
def test_without_libyaml_the_same_texts_are_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml_reader, "_LOADER", yaml.SafeLoader)
    assert refusal(text)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300) | st.text(alphabet="[]{}:,-?&*!|>'\"%#\\ \nau0", max_size=60).map(str.encode))
def test_arbitrary_bytes_raise_nothing_but_the_declared_error(body: bytes) -> None:
    for content_type in (YAML, JSON):
        with contextlib.suppress(documents.InvalidDocument):
            document = documents.read(body, content_type)
            assert () in document.locate().value_places


TREES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 63) - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8", exclude_characters="\0")),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text('abc"\\{:,', max_size=3), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(TREES, st.sampled_from([None, 1]))
def test_json_that_was_written_is_read_back_and_every_value_is_located(tree: Any, indent: int | None) -> None:
    text = json.dumps(tree, indent=indent)
    document = documents.read(text.encode(), JSON)
    assert document.data == tree
    lines = text.split("\n")
    positions = document.locate()
    for path in positions.value_places:
        value = tree
        position = positions.value(path)
        assert position is not None
        for step in path:
            value = value[step]
        rest = lines[position.line - 1][position.column - 1 :]
        start = json.dumps(value)
        assert rest.startswith(start[:1] if isinstance(value, list | dict) else start)
