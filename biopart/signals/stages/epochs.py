"""Turn marks on the clock of a recording into labels of epochs. Epochs are counted in samples."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from biopart.signals.recording import Mark


def label_epochs(
    marks: Sequence[Mark],
    codes: Callable[[str], int | None],
    *,
    n_samples: int,
    sfreq_hz: float,
    epoch: int,
    scored_s: float = 0.0,
) -> NDArray[np.int8]:
    """Label epochs with the code that covers more than half of each, else -1.

    Parameters
    ----------
    marks
        Marks on the recording's clock, in any order. One without a duration (None or 0) lasts until
        the next one that has a code, the last one until the end; of overlapping marks the later
        onset wins. Samples before the first mark are -1.
    codes
        Code of a mark's text, None for marks that are not stages, such as ``stage_code``.
    n_samples, sfreq_hz
        Length in samples and rate of the signal.
    epoch
        Length of an epoch in samples; epoch e is samples [e * epoch, (e + 1) * epoch).
    scored_s
        Length of the scored epochs in seconds, if they are longer.

    Returns
    -------
    labels
        (n_samples // epoch,)

    Raises
    ------
    ValueError
        If a mark other than -1 begins at or beyond the end of the signal, or extends beyond it by
        more than one epoch, stored or scored.

    >>> label_epochs([Mark(2, "W")], {"W": 0}.get, n_samples=9, sfreq_hz=1, epoch=3)
    array([-1,  0,  0], dtype=int8)
    """
    labels = np.full(n_samples, -1, np.int8)
    beyond = n_samples + max(epoch, round(scored_s * sfreq_hz))
    runs = _runs(marks, codes, n_samples=n_samples, sfreq_hz=sfreq_hz)
    for start, stop, code, text in runs:
        if code != -1 and (start >= n_samples or stop > beyond):
            raise ValueError(
                f"Mark {text!r} covers {start / sfreq_hz:g} s to {stop / sfreq_hz:g} s, but the "
                f"signal ends at {n_samples / sfreq_hz:g} s: give the marks of this recording."
            )
        labels[max(start, 0) : max(stop, 0)] = code
    n_epochs = n_samples // epoch
    epochs = labels[: n_epochs * epoch].reshape(n_epochs, epoch)
    result = np.full(n_epochs, -1, np.int8)
    for code in {code for _, _, code, _ in runs}:
        result[2 * (epochs == code).sum(axis=1) > epoch] = code
    return result


def unscored_tail_s(
    marks: Sequence[Mark], codes: Callable[[str], int | None], *, duration_s: float
) -> float:
    """Return how many seconds at the end of a recording have no mark with a code.

    Parameters
    ----------
    marks, codes
        As for ``label_epochs``.
    duration_s
        Length of the recording in seconds; returned if there is no such mark.

    >>> unscored_tail_s([Mark(0, "W", 30), Mark(30, "W", 30)], {"W": 0}.get, duration_s=90)
    30.0
    """
    coded = [mark for mark in marks if codes(mark.text) is not None]
    last = max(coded, key=lambda mark: mark.onset_s, default=None)
    if last is not None and not last.duration_s:
        return 0.0
    end_s = max((mark.onset_s + (mark.duration_s or 0.0) for mark in coded), default=0.0)
    return max(0.0, float(duration_s - end_s))


def _runs(
    marks: Sequence[Mark],
    codes: Callable[[str], int | None],
    *,
    n_samples: int,
    sfreq_hz: float,
) -> list[tuple[int, int, int, str]]:
    """Return start and stop in samples, code and text of each coded mark, in order of onset."""
    coded = [
        (mark, code)
        for mark in sorted(marks, key=lambda mark: mark.onset_s)
        if (code := codes(mark.text)) is not None
    ]
    starts = [round(mark.onset_s * sfreq_hz) for mark, _ in coded]
    stops = [min(stop, n_samples) for stop in (*starts[1:], n_samples)]
    return [
        (
            start,
            round((mark.onset_s + mark.duration_s) * sfreq_hz) if mark.duration_s else stop,
            code,
            mark.text,
        )
        for (mark, code), start, stop in zip(coded, starts, stops[: len(coded)], strict=True)
    ]
