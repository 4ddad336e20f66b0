"""The words that a recipe chooses between, without torch."""

from typing import Annotated, Any, Literal

from pydantic import PlainSerializer, PlainValidator

from biopart.addresses import place

Position = Literal["learned", "sincos", "relative", "none"]
"""Positions of an encoder: a trained embedding, fixed sines and cosines, a trained bias of the
attention by the relative position, or none."""

Normalisation = Literal["window", "recording", "imagenet", "half", "none"]
"""How values are normalised: by the statistics of the window, the recording or ImageNet, or not."""

Pool = Literal["cls", "mean"]
"""What is classified: [CLS], or the mean of the patch tokens."""

Head = Literal["attention", "pairwise", "joint", "cross_attention", "pairwise_mlp", "joint_mlp"]
"""The relative encoder of PART: three of its released code, and three with norms of our own."""

Method = Literal[
    "part",
    "part-grid",
    "mae",
    "mp3",
    "droppos",
    "dino",
    "byol",
    "moby",
    "selfpatch",
    "cossl",
    "supervised",
    "supervised-nopos",
    "supervised-relative",
]
"""The methods that a curve can compare."""

COMPARED: tuple[Method, ...] = (
    "part",
    "part-grid",
    "mae",
    "mp3",
    "droppos",
    "supervised",
    "supervised-nopos",
    "supervised-relative",
)
"""Those that it compares where a recipe names none."""

StorePlace = Annotated[
    Any,
    PlainValidator(place, json_schema_input_type=str),
    PlainSerializer(str, return_type=str),
]
"""A folder, or an address that fsspec opens; a Path or what has the methods of one."""
