"""Bytes and a content type → plain data with positions, or every reason why not.

Everything that could hurt – depth, number of nodes, aliases, tags, duplicate keys – is refused before
or while the data is made, so no later step can be exhausted by a small text.
"""

from __future__ import annotations

from orchestrator.documents import json_reader, yaml_reader
from orchestrator.documents.parts import (
    MAX_BYTES,
    Document,
    DocumentTooLarge,
    InvalidDocument,
    Path,
    Position,
    Positions,
    Problem,
    UnsupportedContentType,
)

__all__ = [
    "CONTENT_TYPES",
    "Document",
    "DocumentTooLarge",
    "InvalidDocument",
    "Path",
    "Position",
    "Positions",
    "Problem",
    "UnsupportedContentType",
    "read",
]

_READERS = {
    "application/yaml": yaml_reader.read,
    "text/yaml": yaml_reader.read,
    "application/x-yaml": yaml_reader.read,
    "application/json": json_reader.read,
}
CONTENT_TYPES = tuple(_READERS)


def read(body: bytes, content_type: str) -> Document:
    """Return the document in `body`.

    Raises `UnsupportedContentType`, `DocumentTooLarge`, or `InvalidDocument` with every problem found.
    """
    media_type, _, parameters = content_type.partition(";")
    reader = _READERS.get(media_type.strip().lower())
    if reader is None or not _charset_is_utf8(parameters):
        raise UnsupportedContentType(
            f"the content type {content_type[:100]!r} is not supported: a manifest is YAML or JSON in UTF-8; "
            f"send one of {', '.join(CONTENT_TYPES)}"
        )
    if len(body) > MAX_BYTES:
        raise DocumentTooLarge(
            f"the body has {len(body):,} bytes: at most {MAX_BYTES:,} are read; keep bulk data in the repository"
        )
    text = _decoded(body)
    if not text or text.isspace():
        raise InvalidDocument([Problem("empty", "the document is empty: nothing was sent; send a manifest")])
    return reader(text)


def _charset_is_utf8(parameters: str) -> bool:
    for parameter in parameters.lower().split(";"):
        name, _, value = parameter.partition("=")
        if name.strip() == "charset":
            return value.strip().strip('"') in {"utf-8", "utf8", "us-ascii"}
    return True


def _decoded(body: bytes) -> str:
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = body[: error.start].decode("utf-8-sig", "replace")
        line_start = before.rfind("\n") + 1
        position = Position(before.count("\n") + 1, len(before) - line_start + 1)
        message = (
            f"the text is not UTF-8: byte 0x{body[error.start]:02x} begins no character ({error.reason}); "
            "save it as UTF-8"
        )
        raise InvalidDocument([Problem("encoding", message, position=position)]) from error
