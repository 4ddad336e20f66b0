"""The figures of each view, for signals (one axis) and images (two)."""

from collections.abc import Iterator

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from biopart import figures
from biopart.verbs.show import Look, Relations, View

Drawn = Iterator[tuple[str, Figure]]


def draw(look: Look, view: View, items: list[int]) -> Drawn:
    """Yield the figures of a view with what they show, one or more per item.

    Raises
    ------
    ValueError
        If the run is of grids with another number of axes than one or two.
    """
    if look.axes > 2:
        raise ValueError(
            f"show draws signals and images; the patches of {look.run.path} have {look.axes} axes"
        )
    told = look.relations(items)
    each = {"reconstruction": _places, "uncertainty": _scatter, "symmetry": _pairs, "scale": _sizes}
    for row in range(len(told.names)):
        yield from each[view](look, told, row)
    if view == "reconstruction" and len(items) > 1:
        yield from _mixed(look, look.mixed((items[0], items[1])))


def _places(look: Look, told: Relations, row: int) -> Drawn:
    seen = {"from one reference": told.placed(0), "least squares": told.placed()}
    starts, sizes = told.boxes.start[row].numpy(), told.boxes.size[row].numpy()
    corners = {
        name: (found[row] - told.boxes.size[row] / 2).numpy() for name, found in seen.items()
    }
    hints = f", {int(told.hinted[row].sum())} of {len(starts)} positions given (ringed)"
    hints = hints if told.hinted.any() else ""
    for name, found in seen.items():
        away = told.distance(found)[row][~told.hinted[row]].mean().item()
        if look.axes == 1:
            figure = figures.reconstruction(
                _signal(told, row)[None],
                starts[:, 0],
                corners[name][:, 0],
                look.part.encoder.patch[0],
                sfreq_hz=look.experiment.cohort.sfreq_hz,
            )
            _ring(figure, look, told, row, placed=corners[name][:, 0])
            yield f"{told.names[row]}, {name}: {away:.2f} patch sizes mean error{hints}", figure
    if look.axes == 2:
        whole = {
            f"{name}\nmean error {told.distance(found)[row].mean():.2f}": corners[name]
            for name, found in seen.items()
        }
        pixels = _pixels(told, row)
        figure = figures.pasted(pixels, starts, sizes, whole, marked=told.hinted[row].numpy())
        yield f"{told.names[row]}{hints}", figure


def _ring(
    figure: Figure, look: Look, told: Relations, row: int, *, placed: NDArray[np.float64]
) -> None:
    """Ring the patches whose position was told."""
    hinted, sfreq_hz = told.hinted[row].numpy(), look.experiment.cohort.sfreq_hz
    true = told.boxes.start[row, :, 0].numpy()[hinted] / sfreq_hz
    axis = figure.axes[1]
    axis.scatter(true, placed[hinted] / sfreq_hz, s=90, facecolors="none", edgecolors="black")


def _mixed(look: Look, told: Relations) -> Drawn:
    """Draw patches of two items placed together; without hints, which would tell them apart."""
    first = look.part.count - look.part.count // 2
    owner = (np.arange(look.part.count) >= first).astype(int)
    corners = (told.placed() - told.boxes.size / 2)[0].numpy()
    starts, size = told.boxes.start[0].numpy(), look.part.encoder.patch
    title = f"patches of {told.names[0]} placed together"
    if look.axes == 2:
        pieces = []
        for (y, x), (height, width), mine in zip(
            starts, told.boxes.size[0].numpy(), owner, strict=True
        ):
            pieces.append(_pixels(told, mine)[y : y + height, x : x + width])
        height, width = look.part.encoder.shape
        shape = (height, width)
        yield title, figures.pasted_together(pieces, corners, owner, shape, title=title)
        return
    for mine in (0, 1):
        figure = figures.reconstruction(
            _signal(told, mine)[None],
            starts[owner == mine, 0],
            corners[owner == mine, 0],
            size[0],
            sfreq_hz=look.experiment.cohort.sfreq_hz,
        )
        yield f"{title}: patches of the {('first', 'second')[mine]}", figure


def _scatter(look: Look, told: Relations, row: int) -> Drawn:
    starts, sizes = told.boxes.start[row].numpy(), told.boxes.size[row].numpy()
    scatter = told.scatter[row].numpy()
    name = f"{told.names[row]}: mean spread {scatter.mean():.2f} patch sizes"
    if look.axes == 2:
        yield name, figures.uncertain(_pixels(told, row), starts, sizes, scatter)
        return
    yield (
        name,
        figures.scattered(
            _signal(told, row),
            starts[:, 0],
            look.part.encoder.patch[0],
            scatter,
            hinted=told.hinted[row].numpy(),
            sfreq_hz=look.experiment.cohort.sfreq_hz,
        ),
    )


def _pairs(look: Look, told: Relations, row: int) -> Drawn:
    names = ("y", "x") if look.axes == 2 else ("time",)
    both = told.shifts[row] + told.shifts[row].transpose(0, 1)
    away = both.abs().mean().item()
    yield (
        f"{told.names[row]}: mean |R(i, j) + R(j, i)| is {away:.2f} patch sizes",
        figures.matrices(
            told.true_shifts[row].numpy(),
            told.shifts[row].numpy(),
            told.boxes.start[row].numpy(),
            names,
        ),
    )


def _sizes(look: Look, told: Relations, row: int) -> Drawn:
    assert told.sizes is not None
    size = told.boxes.size[row].double()
    # Each reference tells the log of every size; their mean, moved so that the whole agrees.
    logs = told.sizes[row].double().mean(0)
    logs = logs - logs.mean(0) + size.log().mean(0)
    found, centres = logs.exp(), told.placed()[row]
    corners, starts = centres - found / 2, told.boxes.start[row].double()
    name = (
        f"{told.names[row]}: {told.distance(told.placed())[row].mean():.2f} patch sizes mean error"
    )
    if look.axes == 2:
        height, width = look.part.encoder.shape
        true = np.concatenate([starts.numpy(), size.numpy()], 1)
        predicted = np.concatenate([corners.numpy(), found.numpy()], 1)
        yield name, figures.sized((height, width), true, predicted)
        return
    yield (
        name,
        figures.stretched(
            *(x[:, 0].numpy() for x in (starts, size, corners, found)),
            sfreq_hz=look.experiment.cohort.sfreq_hz,
        ),
    )


def _signal(told: Relations, row: int) -> NDArray[np.float64]:
    """Return the first channel of a window, in units of the store."""
    return told.values[row, 0].double().numpy()


def _pixels(told: Relations, row: int) -> NDArray[np.uint8]:
    """Return an image (y, x, 3), or (y, x) of a grey one."""
    channels = told.values[row].numpy()
    pixels: NDArray[np.uint8] = channels[0] if len(channels) != 3 else channels.transpose(1, 2, 0)
    return pixels
