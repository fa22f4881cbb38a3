"""The network side of a download: offer, ranges, resuming, verification (the local side: partial_file)."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import httpx

from api.client_errors import ChecksumMismatch, DownloadFailed, ServerRefused, ServerUnreachable
from api.connection import READ_SECONDS, Connection
from api.partial_file import PartialFile, local_failure, refuse_symlink, sha256_of

Progress = Callable[[int, int], None]
"""Called with the bytes that are here and the bytes there are in all."""

FRUITLESS_TRIES = 5
"""So many connections in a row that bring no byte end the call; what is here stays for the next one."""
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+)")
_AS_IT_IS = {"Accept-Encoding": "identity"}


@dataclass(frozen=True, slots=True)
class Downloaded:
    """A file that is in place. `kept_bytes` is how much of it was here before this call."""

    path: Path
    size_bytes: int
    sha256: str
    verified: bool
    kept_bytes: int


@dataclass(frozen=True, slots=True)
class Offer:
    """What the server says it would send."""

    size_bytes: int
    etag: str | None
    sha256: str | None

    @property
    def identity(self) -> str | None:
        """What tells this content from another under the same name; None means it cannot be resumed."""
        return self.sha256 or self.etag


@dataclass
class Download:
    """One artifact on its way into one file. `checksum` is the list's, `sha256:<hex>`."""

    connection: Connection
    url_path: str
    target: Path
    verify: bool = True
    checksum: str | None = None
    on_progress: Progress | None = None

    def run(self) -> Downloaded:
        """Fetch, verify, rename. Raises `DownloadFailed` and its kinds, `NotFound`, `ServerUnreachable`."""
        refuse_symlink(self.target)
        offer = self._offer()
        try:
            if self._is_there(offer):
                return Downloaded(self.target, offer.size_bytes, offer.sha256 or "", True, offer.size_bytes)
            with PartialFile(self.target, offer.identity) as part:
                return self._fill(part, offer)
        except OSError as error:
            raise local_failure(self.target, error) from error

    def _offer(self) -> Offer:
        """Ask what there is. A HEAD has no words for an error, so a GET is asked to say them."""
        try:
            return self._read(self.connection.request("HEAD", self.url_path, headers=_AS_IT_IS, repeatable=True))
        except ServerRefused:
            with self._open(_AS_IT_IS) as response:
                return self._read(response)

    def _open(self, headers: dict[str, str]) -> AbstractContextManager[httpx.Response]:
        return self.connection.stream("GET", self.url_path, headers=headers, read_seconds=READ_SECONDS)

    def _read(self, response: httpx.Response) -> Offer:
        sha256 = response.headers.get("x-checksum-sha256", "").lower() or None
        listed = (self.checksum or "").removeprefix("sha256:").lower() or None
        size = response.headers.get("content-length", "")
        encoding = response.headers.get("content-encoding", "identity")
        if not size.isdigit() or encoding != "identity":
            raise self._failed("the server does not say how long it is, or sends it re-encoded")
        if sha256 and listed and sha256 != listed:
            raise ChecksumMismatch(
                f"{self.url_path} was not downloaded: its list says SHA-256 {listed}, the server now offers "
                f"{sha256}. It was replaced meanwhile: list the artifacts again."
            )
        if self.verify and not (sha256 or listed):
            raise self._failed("the server gives no checksum; --no-verify fetches it unverified")
        return Offer(int(size), response.headers.get("etag"), sha256 or listed)

    def _is_there(self, offer: Offer) -> bool:
        """Say whether the target already is this content: then `--all` after a cut fetches the rest only."""
        if not (self.verify and offer.sha256 and self.target.is_file()):
            return False
        return self.target.stat().st_size == offer.size_bytes and sha256_of(self.target) == offer.sha256

    def _fill(self, part: PartialFile, offer: Offer) -> Downloaded:
        if part.size > offer.size_bytes:
            part.restart()
        kept = part.size
        self._fetch(part, offer)
        if self.verify and part.sha256() != offer.sha256:
            part.discard()
            raise ChecksumMismatch(
                f"{self.target} was not written: what arrived has SHA-256 {part.sha256()}, "
                f"the server promised {offer.sha256}. It was thrown away; download it again."
            )
        part.put_in_place()
        return Downloaded(self.target, part.size, part.sha256(), self.verify, kept)

    def _fetch(self, part: PartialFile, offer: Offer) -> None:
        """Receive until all bytes are here, over as many connections as that takes."""
        fruitless = 0
        while part.size < offer.size_bytes:
            before = part.size
            try:
                self._receive(part, offer)
                why = "the transfer ended early"
            except httpx.TransportError as error:
                why = str(error) or type(error).__name__
            except ServerRefused as error:
                if not error.may_pass:
                    raise
                why = str(error)
            fruitless = 0 if part.size > before else fruitless + 1
            if fruitless >= FRUITLESS_TRIES:
                kept = f"{part.size} of {offer.size_bytes} bytes are kept: the same command goes on from there"
                raise ServerUnreachable(self.connection.server, f"{why}; {kept}")
            if part.size < offer.size_bytes:
                self.connection.sleep(min(8.0, 0.25 * 2**fruitless))

    def _receive(self, part: PartialFile, offer: Offer) -> None:
        """Append one connection's bytes; begin again when the server sends the whole instead of the rest."""
        headers = dict(_AS_IT_IS)
        if part.size and offer.identity:
            headers["Range"] = f"bytes={part.size}-"
            headers |= {"If-Range": offer.etag} if offer.etag else {}
        with self._open(headers) as response:
            if self._read(response).identity != offer.identity:
                part.discard()
                raise self._failed("it changed on the server meanwhile; download it again")
            self._position(part, offer, response)
            for chunk in response.iter_raw():  # as it comes: a larger chunk would be lost with a cut
                if part.size + len(chunk) > offer.size_bytes:
                    part.discard()
                    raise self._failed("more bytes arrive than the server announced")
                part.append(chunk)
                if self.on_progress:
                    self.on_progress(part.size, offer.size_bytes)

    def _position(self, part: PartialFile, offer: Offer, response: httpx.Response) -> None:
        """Make the part end where this answer begins."""
        if response.status_code != httpx.codes.PARTIAL_CONTENT:
            part.restart()
            return
        found = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
        if found is None or (int(found[1]), int(found[2])) != (part.size, offer.size_bytes):
            part.discard()
            raise self._failed("the server sent another range than was asked for")

    def _failed(self, why: str) -> DownloadFailed:
        return DownloadFailed(f"{self.url_path} was not downloaded: {why}.")
