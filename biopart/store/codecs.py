"""Codecs of arrays in a store: which ones are read."""

from typing import Any

# Codecs that decode numbers and do nothing else.
CODECS = {"bytes", "blosc", "sharding_indexed", "crc32c", "zstd", "gzip", "transpose"}


def codecs_of(listed: Any) -> set[str]:
    """Return the names of codecs, and of those inside them.

    Examples
    --------
    >>> sorted(codecs_of([{"name": "x", "configuration": {"codecs": [{"name": "bytes"}]}}]))
    ['bytes', 'x']
    """
    names = set()
    for codec in listed:
        inner = codec.get("configuration") or {}
        names |= {str(codec["name"]), *codecs_of(inner.get("codecs", []))}
        names |= codecs_of(inner.get("index_codecs", []))
    return names
