"""One decoder for all images: pixels in the size of a card, or whole scenes, or the reason."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from biopart.store.image_card import ImageCard

_DEEP = {"I", "F"}  # and I;16: more than 8 bits, which PIL would clip silently
_NO_PIXELS = {".bufr", ".grib", ".h5", ".hdf", ".mpeg", ".mpg", ".wmf", ".emf", ".ps", ".eps"}


@cache
def suffixes() -> frozenset[str]:
    """Return the suffixes, in small letters, of all image files that PIL can decode here."""
    Image.init()
    known = Image.registered_extensions()
    return frozenset(end for end, kind in known.items() if kind in Image.OPEN) - _NO_PIXELS


@contextmanager
def quietly() -> Iterator[None]:
    """Silence PIL's warnings about corrupt EXIF, which does not affect the pixels."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def read_image(source: Path | str | BinaryIO, mode: Literal["RGB", "L"]) -> Image.Image:
    """Decode an image.

    CMYK, palettes and transparency are converted to ``mode`` by PIL. The rotation in EXIF is not
    applied, as is usual for ImageNet and COCO, whose boxes refer to the stored pixels.

    Raises
    ------
    ValueError
        The reason without the name of the file: more than 8 bits per channel, truncated, not an
        image.
    """
    try:
        with Image.open(source) as image:
            if image.mode.partition(";")[0] in _DEEP:
                raise ValueError(f"has more than 8 bits per channel (mode {image.mode})")
            image.load()
            return image if image.mode == mode else image.convert(mode)
    except FileNotFoundError:
        raise ValueError("does not exist, or is a broken link") from None
    except (
        OSError,
        ValueError,
        SyntaxError,
        LookupError,
        TypeError,
        EOFError,
        ArithmeticError,
        Image.DecompressionBombError,
    ) as error:
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from None


def read_codes(path: Path) -> NDArray[np.uint8]:
    """Read an image of one number per pixel, such as classes, (y, x); ValueError of others."""
    with Image.open(path) as opened:
        if opened.mode not in ("L", "P", "1"):
            raise ValueError(f"{path} has mode {opened.mode}; give an image of one byte per pixel")
        return np.asarray(opened).astype(np.uint8)


def decode(source: Path | str | BinaryIO, card: ImageCard) -> NDArray[np.uint8] | str:
    """Decode an image to uint8 (channel, y, x) in the size of a card, or return the reason."""
    height, width = card.size
    try:
        image = read_image(source, "L" if card.channels == ["grey"] else "RGB")
    except ValueError as error:
        return str(error)
    if image.size != (width, height):
        if card.fit is None:
            return f"is {image.height} x {image.width}, not {height} x {width}; set fit"
        if card.fit == "crop":
            image = centre(image, height, width)
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    values = np.asarray(image, dtype=np.uint8).reshape(height, width, -1)
    return values.transpose(2, 0, 1)


def centre(image: Image.Image, height: int, width: int) -> Image.Image:
    """Cut the largest centred part with the aspect ratio of a height and width.

    It is cut before it is resized: PIL's ``ImageOps.fit`` lets outside pixels bleed in.
    """
    scale = min(image.height / height, image.width / width)
    rows, columns = max(1, round(scale * height)), max(1, round(scale * width))
    top, left = (image.height - rows) // 2, (image.width - columns) // 2
    return image.crop((left, top, left + columns, top + rows))
