"""DAVIS 2017's layout: frames of videos and the objects in them (arXiv 1704.00675)."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from biopart.files import read_text
from biopart.images.decoding import read_codes, read_image

VOID = 255  # of an annotation: not scored


@dataclass(frozen=True)
class Video:
    """A video with objects.

    Attributes
    ----------
    name : str
        Of its folder.
    frames, masks : tuple of Path
        Images and annotations, in order of time; one annotation for each frame.
    objects : int
        Number of objects in the first frame.
    """

    name: str
    frames: tuple[Path, ...]
    masks: tuple[Path, ...]
    objects: int

    def truth(self, number: int) -> NDArray[np.uint8]:
        """Return the object of every pixel of a frame, (y, x); 0 = background."""
        codes = read_codes(self.masks[number])
        return np.where(codes == VOID, 0, codes).astype(np.uint8)

    def image(self, number: int) -> Image.Image:
        """Decode a frame; OSError names the file and the reason."""
        try:
            return read_image(self.frames[number], "RGB")
        except ValueError as error:
            raise OSError(f"{self.frames[number]} {error}; unpack it again") from None


def read_davis(root: Path, part: str = "val") -> tuple[Video, ...]:
    """Read the videos of a part.

    Parameters
    ----------
    root : Path
        The folder ``DAVIS`` as unpacked, with ``JPEGImages/480p`` and ``Annotations/480p``.
    part : str
        ``val`` or ``train``: a list in ``ImageSets/2017``.

    Raises
    ------
    FileNotFoundError
        If a folder or list is missing.
    ValueError
        If a video has other annotations than frames, fewer than three frames or no object.
    """
    listed = root / "ImageSets" / "2017" / f"{part}.txt"
    if not listed.is_file():
        raise FileNotFoundError(f"{listed} does not exist; give the folder DAVIS as unpacked")
    videos = []
    for name in read_text(listed).split():
        frames = sorted((root / "JPEGImages" / "480p" / name).glob("*.jpg"))
        masks = sorted((root / "Annotations" / "480p" / name).glob("*.png"))
        if [frame.stem for frame in frames] != [mask.stem for mask in masks] or len(frames) < 3:
            raise ValueError(
                f"{name} has {len(frames)} frames and {len(masks)} annotations; it needs one for "
                "each, and three or more"
            )
        first = read_codes(masks[0])
        objects = int(first[first != VOID].max(initial=0))
        if not objects:
            raise ValueError(f"{masks[0]} shows no object")
        videos.append(Video(name, tuple(frames), tuple(masks), objects))
    if not videos:
        raise ValueError(f"{listed} names no video")
    return tuple(videos)
