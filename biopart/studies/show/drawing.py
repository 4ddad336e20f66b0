"""The figures of each view, for signals (one axis) and images (two)."""

from collections.abc import Iterator

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from biopart import figures
from biopart.verbs.show import PartRun, Relations, View

Drawn = Iterator[tuple[str, Figure]]


def draw(part_run: PartRun, view: View, items: list[int]) -> Drawn:
    """Yield the titles and figures of a view, one or more per item.

    Raises
    ------
    ValueError
        If the run's grid has more than two axes.
    """
    if part_run.axes > 2:
        raise ValueError(
            f"show draws signals and images; the patches of {part_run.run.path} have "
            f"{part_run.axes} axes"
        )
    relations = part_run.relations(items)
    each = {"reconstruction": _places, "uncertainty": _scatter, "symmetry": _pairs, "scale": _sizes}
    for row in range(len(relations.names)):
        yield from each[view](part_run, relations, row)
    if view == "reconstruction" and len(items) > 1:
        yield from _mixed(part_run, part_run.mixed((items[0], items[1])))


def _places(part_run: PartRun, relations: Relations, row: int) -> Drawn:
    places = {"from one reference": relations.placed(0), "least squares": relations.placed()}
    starts, sizes = relations.boxes.start[row].numpy(), relations.boxes.size[row].numpy()
    corners = {
        name: (place[row] - relations.boxes.size[row] / 2).numpy() for name, place in places.items()
    }
    hints = f", {int(relations.hinted[row].sum())} of {len(starts)} positions given (ringed)"
    hints = hints if relations.hinted.any() else ""
    for name, place in places.items():
        error = relations.distance(place)[row][~relations.hinted[row]].mean().item()
        if part_run.axes == 1:
            figure = figures.reconstruction(
                _signal(relations, row)[None],
                starts[:, 0],
                corners[name][:, 0],
                part_run.part.encoder.patch[0],
                sfreq_hz=part_run.experiment.cohort.sfreq_hz,
            )
            _ring(figure, part_run, relations, row, placed=corners[name][:, 0])
            yield (
                f"{relations.names[row]}, {name}: {error:.2f} patch sizes mean error{hints}",
                figure,
            )
    if part_run.axes == 2:
        whole = {
            f"{name}\nmean error {relations.distance(place)[row].mean():.2f}": corners[name]
            for name, place in places.items()
        }
        pixels = _pixels(relations, row)
        figure = figures.pasted(pixels, starts, sizes, whole, marked=relations.hinted[row].numpy())
        yield f"{relations.names[row]}{hints}", figure


def _ring(
    figure: Figure,
    part_run: PartRun,
    relations: Relations,
    row: int,
    *,
    placed: NDArray[np.float64],
) -> None:
    """Ring the patches whose position was given."""
    hinted, sfreq_hz = relations.hinted[row].numpy(), part_run.experiment.cohort.sfreq_hz
    true = relations.boxes.start[row, :, 0].numpy()[hinted] / sfreq_hz
    axis = figure.axes[1]
    axis.scatter(true, placed[hinted] / sfreq_hz, s=90, facecolors="none", edgecolors="black")


def _mixed(part_run: PartRun, relations: Relations) -> Drawn:
    """Draw patches of two items placed together; without hints, which would separate them."""
    first = part_run.part.count - part_run.part.count // 2
    owner = (np.arange(part_run.part.count) >= first).astype(int)
    corners = (relations.placed() - relations.boxes.size / 2)[0].numpy()
    starts, size = relations.boxes.start[0].numpy(), part_run.part.encoder.patch
    title = f"patches of {relations.names[0]} placed together"
    if part_run.axes == 2:
        pieces = []
        for (y, x), (height, width), item in zip(
            starts, relations.boxes.size[0].numpy(), owner, strict=True
        ):
            pieces.append(_pixels(relations, item)[y : y + height, x : x + width])
        height, width = part_run.part.encoder.shape
        shape = (height, width)
        yield title, figures.pasted_together(pieces, corners, owner, shape, title=title)
        return
    for item in (0, 1):
        figure = figures.reconstruction(
            _signal(relations, item)[None],
            starts[owner == item, 0],
            corners[owner == item, 0],
            size[0],
            sfreq_hz=part_run.experiment.cohort.sfreq_hz,
        )
        yield f"{title}: patches of the {('first', 'second')[item]}", figure


def _scatter(part_run: PartRun, relations: Relations, row: int) -> Drawn:
    starts, sizes = relations.boxes.start[row].numpy(), relations.boxes.size[row].numpy()
    scatter = relations.scatter[row].numpy()
    name = f"{relations.names[row]}: mean spread {scatter.mean():.2f} patch sizes"
    if part_run.axes == 2:
        yield name, figures.uncertain(_pixels(relations, row), starts, sizes, scatter)
        return
    yield (
        name,
        figures.scattered(
            _signal(relations, row),
            starts[:, 0],
            part_run.part.encoder.patch[0],
            scatter,
            hinted=relations.hinted[row].numpy(),
            sfreq_hz=part_run.experiment.cohort.sfreq_hz,
        ),
    )


def _pairs(part_run: PartRun, relations: Relations, row: int) -> Drawn:
    names = ("y", "x") if part_run.axes == 2 else ("time",)
    both = relations.shifts[row] + relations.shifts[row].transpose(0, 1)
    asymmetry = both.abs().mean().item()
    yield (
        f"{relations.names[row]}: mean |R(i, j) + R(j, i)| is {asymmetry:.2f} patch sizes",
        figures.matrices(
            relations.true_shifts[row].numpy(),
            relations.shifts[row].numpy(),
            relations.boxes.start[row].numpy(),
            names,
        ),
    )


def _sizes(part_run: PartRun, relations: Relations, row: int) -> Drawn:
    assert relations.sizes is not None
    size = relations.boxes.size[row].double()
    # Each reference predicts the log of every size; their mean is shifted to the true mean.
    logs = relations.sizes[row].double().mean(0)
    logs = logs - logs.mean(0) + size.log().mean(0)
    sizes_found, centres = logs.exp(), relations.placed()[row]
    corners, starts = centres - sizes_found / 2, relations.boxes.start[row].double()
    error = relations.distance(relations.placed())[row].mean()
    name = f"{relations.names[row]}: {error:.2f} patch sizes mean error"
    if part_run.axes == 2:
        height, width = part_run.part.encoder.shape
        true = np.concatenate([starts.numpy(), size.numpy()], 1)
        predicted = np.concatenate([corners.numpy(), sizes_found.numpy()], 1)
        yield name, figures.sized((height, width), true, predicted)
        return
    yield (
        name,
        figures.stretched(
            *(x[:, 0].numpy() for x in (starts, size, corners, sizes_found)),
            sfreq_hz=part_run.experiment.cohort.sfreq_hz,
        ),
    )


def _signal(relations: Relations, row: int) -> NDArray[np.float64]:
    """Return the first channel of a window, in units of the store."""
    return relations.values[row, 0].double().numpy()


def _pixels(relations: Relations, row: int) -> NDArray[np.uint8]:
    """Return an image (y, x, 3), or (y, x) of a grey one."""
    channels = relations.values[row].numpy()
    pixels: NDArray[np.uint8] = channels[0] if len(channels) != 3 else channels.transpose(1, 2, 0)
    return pixels
