"""Measure how well the quality of patches detects artefacts added to recordings."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from biopart.evaluation.paired import student_interval
from biopart.nn import Model
from biopart.run import Run
from biopart.signals.artefacts import KINDS, with_artefacts
from biopart.signals.montage import montage
from biopart.signals.prepare import prepare_recording
from biopart.signals.readers import open_recording
from biopart.signals.recording import Recording
from biopart.store import Card
from biopart.store.seen import Seen
from biopart.studies.stage.nights import recordings_of
from biopart.studies.stage.summary import person_of
from biopart.verbs.quality import Quality, open_quality
from biopart.verbs.stage import staging_cards

MEASURES = ("spread_s", "misplaced_s", "amplitude", "amplitude_change")
LENGTH_S, GAP_S = 3.0, (15.0, 45.0)
"""How long an inserted artefact is, and how far its onset is from the one before, drawn."""


def check_artefacts(
    run: Run, nights: Path, *, seed: int = 0, say: Callable[[str], None] = lambda line: None
) -> dict[str, Any]:
    """Measure how well each track detects artefacts added to recordings.

    Every night gets artefacts of 3 s, one kind at a time, their onsets 15 to 45 s apart; a patch
    at least half covered counts as one with the artefact, patches that touch none as without.

    Parameters
    ----------
    run : Run
        A pretraining by PART, or a fine-tuning of one.
    nights : Path
        A folder of recordings. Persons whom the pretraining has seen are left out.
    seed : int
        Draws the onsets.
    say : callable
        Gets the name of each night.

    Returns
    -------
    dict
        ``n_nights``, ``n_artefacts`` per kind, and ``auc``: kind -> measure -> mean over nights of
        the area under the curve and its 95 % t interval ``[mean, low, high]``. Measures are the
        two of PART; ``amplitude``; and ``amplitude_change``, which is also large if a patch is
        smaller than usual (absolute logarithm).

    Raises
    ------
    ValueError
        If there are fewer than two nights of persons whom the run has not seen.
    """
    quality = open_quality(run)
    about = Model.load(run.pretrained()).about
    (card,) = staging_cards(about)
    paths = unseen(recordings_of(nights, card.recordings), card, about.seen)
    if len(paths) < 2:
        raise ValueError(
            f"{nights} contains {len(paths)} nights of persons whom the run has not seen; an "
            "interval over nights needs two or more"
        )
    areas: dict[str, dict[str, list[float]]] = {
        kind: {measure: [] for measure in MEASURES} for kind in KINDS
    }
    n_artefacts = 0
    for number, path in enumerate(paths):
        say(path.stem)
        recording = open_recording(path, card.reading)
        n_artefacts += len(_onsets(recording, np.random.default_rng([seed, number])))
        for kind in KINDS:
            for measure, area in _areas(quality, card, recording, (kind, seed, number)).items():
                areas[kind][measure].append(area)
    return {
        "n_nights": len(paths),
        "n_artefacts": n_artefacts,
        "auc": {
            kind: {measure: list(student_interval(values)) for measure, values in of_kind.items()}
            for kind, of_kind in areas.items()
        },
    }


def unseen(paths: Sequence[Path], card: Card, seen: Seen) -> list[Path]:
    """Leave out recordings of persons that were seen, by the card's rule for persons."""
    persons = {path: person_of(card, path) for path in paths}
    return [path for path, who in persons.items() if who is None or not seen.knows(card.name, who)]


def _areas(
    quality: Quality, card: Card, recording: Recording, draw: tuple[str, int, int]
) -> dict[str, float]:
    """Return the area under the curve of each measure for one kind in one night."""
    kind, seed, number = draw
    onsets_s = _onsets(recording, np.random.default_rng([seed, number]))
    derivations = montage(recording.names, card.channels, card.aliases)
    channel_names = sorted(
        {name for d in derivations for name in (d.plus, d.minus) if name is not None}
    )
    changed = with_artefacts(
        recording,
        channel_names,
        kind,
        onsets_s=onsets_s.tolist(),
        length_s=LENGTH_S,
        rng=np.random.default_rng([seed, number, KINDS.index(kind)]),
    )
    track = quality.track(prepare_recording(changed, card), card)
    first = track["onset_s"].values
    seconds = quality.part.encoder.patch[0] / card.sfreq_hz
    near = np.clip(np.searchsorted(onsets_s, first + seconds / 2) - 1, 0, None)
    covered = np.zeros(len(first))
    for artefact in (near, np.minimum(near + 1, len(onsets_s) - 1)):
        low = np.maximum(first, onsets_s[artefact])
        high = np.minimum(first + seconds, onsets_s[artefact] + LENGTH_S)
        covered = np.maximum(covered, np.clip(high - low, 0, None) / seconds)
    judged = (covered == 0) | (covered >= 0.5)
    scores = {name: track[name].values for name in MEASURES[:3]}
    scores["amplitude_change"] = np.abs(np.log(np.maximum(scores["amplitude"], 1e-6)))
    truth = covered[judged] > 0
    return {name: float(roc_auc_score(truth, scores[name][judged])) for name in MEASURES}


def _onsets(recording: Recording, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw onsets without a period that windows could share."""
    whole = recording.channels[0].n_samples / recording.channels[0].sfreq_hz
    onsets: NDArray[np.float64] = np.cumsum(rng.uniform(*GAP_S, round(whole / GAP_S[0]) + 1))
    return onsets[onsets + LENGTH_S <= whole]
