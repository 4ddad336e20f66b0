"""Open remote files at a byte offset: HTTP(S) by the standard library, others by fsspec.

Both kinds of source answer two questions: the size of a file, and its bytes from an offset on.
Retrying, resuming and checking are up to ``fetch``.
"""

import http.client
import io
import re
import ssl
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import IO, Any, Protocol
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlsplit
from urllib.request import Request, urlopen

TIMEOUT_S = 60.0
# Errors that a second attempt may cure; a full disk or a missing file is not one of them.
BROKEN = (ConnectionError, TimeoutError, ssl.SSLError, URLError, http.client.HTTPException)


@dataclass(frozen=True)
class Stream:
    """Bytes of a file from ``start`` on; ``total`` is the size of the whole file if known."""

    body: IO[bytes]
    start: int
    total: int | None


class Source(Protocol):
    """A remote folder."""

    def size(self, name: str) -> int | None:
        """Return the size of a file in bytes, None if the source does not state it."""

    def open(self, name: str, start: int) -> AbstractContextManager[Stream]:
        """Open a file at ``start``; the stream states its actual start."""


def open_source(url: str, options: Mapping[str, object]) -> Source:
    """Choose how to read the folder ``url``; ``options`` go to fsspec.

    Raises
    ------
    ValueError
        If ``url`` has no scheme, or one whose driver is not installed.
    """
    scheme = urlsplit(url).scheme
    if not scheme:
        raise ValueError(f"{url!r} is not an address; give one such as https://... or s3://...")
    base = url.rstrip("/") + "/"
    return _Http(base) if scheme in ("http", "https") else _Fsspec(base, scheme, options)


class _Http:
    def __init__(self, base: str) -> None:
        self._base = base

    def size(self, name: str) -> int | None:
        try:
            with self._ask(name, "HEAD") as answer:
                length = answer.headers.get("Content-Length")
        except HTTPError as error:
            if error.code in (405, 501):  # a server without HEAD
                return None
            raise _refusal(error, name) from error
        return int(length) if length else None

    @contextmanager
    def open(self, name: str, start: int) -> Iterator[Stream]:
        try:
            answer = self._ask(name, "GET", start)
        except HTTPError as error:
            if error.code != 416:
                raise _refusal(error, name) from error
            total = _span(error.headers.get("Content-Range"))[1]
            if total == start:  # the interrupted attempt had received everything
                yield Stream(io.BytesIO(), start, total)
                return
            answer = self._ask(name, "GET")
        if answer.status == 206 and _span(answer.headers.get("Content-Range"))[0] != start:
            answer.close()  # not the requested range: start over
            answer = self._ask(name, "GET")
        with answer:
            yield _stream(answer)

    def _ask(self, name: str, method: str, start: int = 0) -> Any:
        # urlopen's own type is Any: an HTTPResponse for http and https
        request = Request(self._base + quote(name), method=method)
        request.add_header("User-Agent", "biopart")
        if start:
            request.add_header("Range", f"bytes={start}-")
        return urlopen(request, timeout=TIMEOUT_S)


class _Fsspec:
    def __init__(self, base: str, scheme: str, options: Mapping[str, object]) -> None:
        import fsspec  # here, since only other schemes need it

        try:
            self._files, self._base = fsspec.core.url_to_fs(base, **options)
        except ImportError as error:
            raise ValueError(
                f"{base} needs the fsspec driver of {scheme}://; for s3 run "
                f'pip install "biopart[s3]", for others see the fsspec documentation'
            ) from error

    def size(self, name: str) -> int | None:
        try:
            size: int | None = self._files.size(self._path(name))
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"{name}: {self._base} has no such file; check the address in the card"
            ) from error
        return size

    @contextmanager
    def open(self, name: str, start: int) -> Iterator[Stream]:
        total = self.size(name)
        begin = start if total is None or start <= total else 0
        with self._files.open(self._path(name), "rb") as body:
            body.seek(begin)
            yield Stream(body, begin, total)

    def _path(self, name: str) -> str:
        return f"{self._base.rstrip('/')}/{name}"


def _stream(answer: Any) -> Stream:
    """Read from status and headers which bytes the answer has."""
    if answer.status == 206:
        start, total = _span(answer.headers.get("Content-Range"))
        return Stream(answer, start or 0, total)
    length = answer.headers.get("Content-Length")
    return Stream(answer, 0, int(length) if length else None)


def _span(content_range: str | None) -> tuple[int | None, int | None]:
    """Return first byte and total of a Content-Range (RFC 9110, 14.4), None without one."""
    found = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(?:(\d+)|\*)", content_range or "")
    if not found:
        return None, None
    first, total = (int(part) if part else None for part in found.groups())
    return first, total


def _refusal(error: HTTPError, name: str) -> Exception:
    """Turn a status into one of our errors: missing, forbidden, temporary, or refused."""
    sentence = f"{name}: the server answered {error.code} {error.reason}"
    error.close()
    if error.code in (404, 410):
        return FileNotFoundError(f"{sentence}; check the address in the card")
    if error.code in (408, 425, 429) or error.code >= 500:
        return ConnectionError(sentence)
    if error.code in (401, 403):
        return ValueError(f"{sentence}; this data set needs a login or an agreement first")
    return ValueError(f"{sentence}; check the address in the card")
