"""The figures of attention and similarity, for signals (one axis) and images (two)."""

from collections.abc import Iterator

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from biopart import figures
from biopart.verbs.maps import MapRun, Maps

Drawn = Iterator[tuple[str, Figure]]
SHOWN = 3  # places whose similarity to all others is drawn over an image


def draw_maps(map_run: MapRun, view: str, items: list[int]) -> Drawn:
    """Yield the titles and figures of a view, one for each item.

    Raises
    ------
    ValueError
        If the run's grid has more than two axes, or the encoder has no [CLS] to attend.
    """
    axes = len(map_run.model.encoder.patch)
    if axes > 2:
        raise ValueError(
            f"show draws signals and images; the patches of {map_run.run.path} have {axes} axes"
        )
    maps = map_run.maps(items)
    if view == "attention" and maps.attention is None:
        raise ValueError(
            f"the encoder of {map_run.run.path} has no [CLS] whose attention could be drawn; use "
            "--view similarity"
        )
    each = _attention if view == "attention" else _similarity
    for row in range(len(maps.names)):
        yield from each(map_run, maps, row, signal=axes == 1)


def _attention(map_run: MapRun, maps: Maps, row: int, *, signal: bool) -> Drawn:
    assert maps.attention is not None
    heads = maps.attention[row].numpy()
    name = f"{maps.names[row]}: attention of [CLS] in the last block"
    label = (
        f"{name}, by head. Largest share of a patch: {heads.max():.2f}, where "
        f"{1 / heads.shape[1]:.3f} would be even"
    )
    if signal:
        lines = {f"head {number}": shares for number, shares in enumerate(heads, start=1)}
        lines["mean"] = heads.mean(0)
        sfreq_hz = map_run.experiment.cohort.sfreq_hz
        values = maps.values[row, 0].double().numpy()
        ylabel = "share of attention"
        yield (
            name,
            figures.over_signal(values, lines, sfreq_hz=sfreq_hz, ylabel=ylabel, label=label),
        )
        return
    grids = {"mean of heads": heads.mean(0).reshape(maps.counts)}
    for number, shares in enumerate(heads[:4], start=1):
        grids[f"head {number}"] = shares.reshape(maps.counts)
    marks = [None] * len(grids)
    yield name, figures.over_image(pixels_of(maps, row), grids, marked=marks, label=label)


def _similarity(map_run: MapRun, maps: Maps, row: int, *, signal: bool) -> Drawn:
    cosines = maps.similarity[row].numpy()
    places = len(cosines)
    mean = (cosines.sum() - places) / max(places * (places - 1), 1)
    name = f"{maps.names[row]}: mean cosine of different places {mean:.2f}"
    label = f"Similarity of local representations of {name}"
    if signal:
        values = maps.values[row, 0].double().numpy()
        sfreq_hz = map_run.experiment.cohort.sfreq_hz
        yield name, figures.alike(values, cosines, sfreq_hz=sfreq_hz, label=label)
        return
    chosen = np.linspace(0, places - 1, SHOWN + 2).round().astype(int)[1:-1].tolist()
    grids = {f"to place {place}": cosines[place].reshape(maps.counts) for place in chosen}
    yield name, figures.over_image(pixels_of(maps, row), grids, marked=chosen, label=label)


def pixels_of(maps: Maps, row: int) -> NDArray[np.uint8]:
    """Return an image (y, x, 3), or (y, x) of a grey one."""
    channels = maps.values[row].numpy()
    pixels: NDArray[np.uint8] = channels[0] if len(channels) != 3 else channels.transpose(1, 2, 0)
    return pixels
