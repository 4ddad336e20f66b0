"""Scores over the strength of corruptions."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from biopart.figures.drawing import PALETTE, broken, listed, panels, plain

Scores = tuple[Sequence[float], Mapping[str, Sequence[float]]]


def corrupted(curves: Mapping[tuple[str, str], Scores], clean: Mapping[str, float]) -> Figure:
    """Draw kappa over the strength of each corruption, one axis for each.

    Parameters
    ----------
    curves
        Name and unit of a corruption to its levels and, by encoder, the kappa at each.
    clean
        Kappa on clean items by encoder, drawn at no corruption.

    Raises
    ------
    ValueError
        If there is no corruption.
    """
    if not curves:
        raise ValueError("There is no corruption to draw.")
    figure, axes = panels(len(curves))
    told = []
    for axis, ((name, unit), (levels, kappas)) in zip(axes, curves.items(), strict=True):
        for number, (encoder, values) in enumerate(kappas.items()):
            places = [0.0, *levels]
            axis.plot(
                places,
                [clean[encoder], *values],
                "o-" if number == 0 else "s--",
                color=PALETTE[number],
                label=encoder,
            )
            last = {f"at {level:g}:": kappa for level, kappa in zip(levels, values, strict=True)}
            told.append(f"{name}, {encoder}: {listed(last)}")
        axis.set(title=name, xlabel=broken(unit), ylabel="Cohen's kappa")
        plain(axis)
    axes[0].legend(frameon=False)
    figure.set_label(f"Kappa over the strength of corruptions. {'; '.join(told)}")
    return figure
