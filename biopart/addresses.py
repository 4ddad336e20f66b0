"""Places of stores: folders of this machine, and addresses that fsspec opens (``s3://...``)."""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

OPTIONS = {"use_listings_cache": False}  # other processes write to the same place
EXTRAS = {"s3": "s3", "gs": "gs", "gcs": "gs", "http": "http", "https": "http"}
"""What of biopart's extras opens an address, by the name that it begins with."""


def place(where: Path | str) -> Path:
    """Return the place that a text names.

    Returns
    -------
    Path
        A path, ``~`` expanded; of an address a ``UPath``, which has the methods of one.

    Raises
    ------
    ValueError
        If nothing opens such an address; names the extra where there is one.

    Examples
    --------
    >>> place("data/store.zarr").name, is_address(place("data/store.zarr"))
    ('store.zarr', False)
    >>> str(place("memory://bucket/store.zarr")), is_address(place("memory://bucket/store.zarr"))
    ('memory://bucket/store.zarr', True)
    """
    if not isinstance(where, str) or "://" not in where:
        return where.expanduser() if isinstance(where, Path) else _of_text(where)
    from fsspec import get_filesystem_class

    upath: Any = importlib.import_module("upath")
    scheme = where.partition("://")[0]
    try:
        get_filesystem_class(scheme)  # a UPath finds out when it is first used
        return cast(Path, upath.UPath(where, **OPTIONS))
    except (ImportError, ValueError) as error:
        extra = EXTRAS.get(scheme)
        remedy = (
            f'install what opens it: pip install "biopart[{extra}]"'
            if extra
            else "give s3://, gs://, https://, or a folder"
        )
        raise ValueError(f"{where} cannot be opened ({error}); {remedy}") from error


def _of_text(where: Any) -> Path:
    """Return the path of a text, and a UPath unchanged."""
    if isinstance(where, str):
        return Path(where).expanduser()
    if not hasattr(where, "fs"):
        raise ValueError(f"{where!r} is not a path; give text")
    return cast(Path, where)


def is_address(where: Path) -> bool:
    """Tell an address from a path of this machine."""
    return not isinstance(where, Path)


FAULTS = {
    "botocore.exceptions": ("BotoCoreError", "ClientError"),
    "aiohttp": ("ClientError",),
    "gcsfs.retry": ("HttpError",),
    "google.auth.exceptions": ("GoogleAuthError",),
}
"""Errors, beside OSError, of the libraries that open addresses, by module."""


@contextmanager
def reached(where: Path) -> Iterator[None]:
    """Turn what an object store refuses into one sentence; nothing is done for a path.

    Raises
    ------
    FileNotFoundError
        If there is no such bucket.
    ValueError
        If the credentials are wrong, the bucket is read-only, or nothing answers.
    """
    if not is_address(where):
        yield
        return
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"there is no {where} ({_text(error)}); check the address"
        ) from error
    except PermissionError as error:
        raise ValueError(
            f"{where} refuses access ({_text(error)}); check the credentials, and whether the "
            "bucket may be written to"
        ) from error
    except unreachable() as error:
        raise ValueError(
            f"{where} cannot be reached ({_text(error)}); check the connection, the credentials "
            "and the address of the server"
        ) from error


def has_file(path: Path) -> bool:
    """Tell whether there is a file; of an address ``reached`` says where nothing answers."""
    if not is_address(path):
        return path.is_file()
    address: Any = path
    with reached(path):
        try:
            address.fs.info(address.path)
        except FileNotFoundError:
            return False
    return True


def unreachable() -> tuple[type[BaseException], ...]:
    """Return what the libraries of addresses raise when a server fails."""
    named = [(sys.modules.get(module), names) for module, names in FAULTS.items()]
    return (OSError, *(getattr(loaded, n) for loaded, names in named if loaded for n in names))


def _text(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
