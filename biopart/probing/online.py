"""A probe of an encoder while it is being trained, to see whether it learns or collapses."""

from collections.abc import Callable
from typing import Literal

import numpy as np

from biopart.data import Source
from biopart.evaluation.collapse import feature_std, rankme
from biopart.evaluation.metrics import confusion_of, kappa_of
from biopart.evaluation.probes import linear_probe, nearest_neighbours
from biopart.experiment import Experiment
from biopart.nn import Encoder, Model
from biopart.probing.features import embeddings
from biopart.recipe import ComputeSettings
from biopart.store.seen import Seen
from biopart.train import Row


def online_probe(
    experiment: Experiment, encoder: Encoder, compute: ComputeSettings
) -> Callable[[], Row]:
    """Return a function that rates an encoder as it stands, without changing it.

    Features are the means of the patch tokens in float32, as those of ``biopart probe``. The
    windows are the same at every call and in every run on one split: at most
    ``pretrain.probe_windows`` of the persons that may be used for fine-tuning, and as many of the
    validation persons. Test persons take no part.

    The probe is the logistic regression of ``biopart probe``, so that both can be compared. k-NN is
    what papers on views report; on features of UCDDB, with four draws of 2048 windows, its mean
    kappa jumped by up to 0.11 between neighbouring probes of a training, that of the regression by
    up to 0.03. Either takes 0.02 to 0.2 s, at most a tenth of the time in which the windows are
    encoded.

    Parameters
    ----------
    experiment : Experiment
        Persons and windows.
    encoder : Encoder
        The trained encoder itself; the function is called while it is in evaluation mode.
    compute : ComputeSettings
        The machine, as the training uses it.

    Returns
    -------
    callable
        Returns ``probe/kappa`` of the regression and ``probe/knn``, the accuracy of
        ``nearest_neighbours`` (both of validation windows), ``probe/rank`` and ``probe/std``
        (RankMe and the spread of the features of the same windows, see ``evaluation.collapse``).

    Raises
    ------
    ValueError
        If there are no validation persons, or labels of fewer than two classes in a part.
    """
    recipe, split = experiment.recipe, experiment.split
    if not split.validation:
        raise ValueError(
            "pretrain.probe_every needs validation persons to score the probe on, but there are "
            "none; raise split.validation_persons, or set pretrain.probe_every to null"
        )
    train, validation = (
        _windows(experiment, part, persons)
        for part, persons in (("fine-tuning", split.finetune), ("validation", split.validation))
    )
    positions = recipe.pretrain.objective.uses_positions
    model = Model(encoder, experiment.about(Seen(), positions=positions))
    feature = embeddings(model, compute, "mean")
    weight: Literal["balanced"] | None = "balanced" if recipe.finetune.class_weights else None
    n_classes = len(experiment.cohort.label_names)

    def rate() -> Row:
        held = feature(validation)
        seen = feature(train)
        predicted = linear_probe(seen, train.labels, held, seed=recipe.seed, class_weight=weight)
        near = nearest_neighbours(seen, train.labels, held)
        counts = confusion_of(validation.labels, predicted, n_classes)
        kappa = float(kappa_of(counts))
        return {
            "probe/kappa": kappa,
            "probe/knn": float((near == validation.labels).mean()),
            "probe/rank": rankme(held),
            "probe/std": feature_std(held),
        }

    return rate


def _windows(experiment: Experiment, part: str, persons: tuple[str, ...]) -> Source:
    """Return the labelled windows of persons that a probe uses; ValueError with too few classes."""
    recipe = experiment.recipe
    source = experiment.source(persons, labelled=True)
    source = source.drawn(recipe.pretrain.probe_windows, recipe.split.seed)
    codes = np.unique(source.labels).tolist()
    if len(codes) < 2:
        names = ", ".join(experiment.cohort.label_names[code] for code in codes)
        raise ValueError(
            f"pretrain.probe_every needs labels of two classes or more, but the {part} persons "
            f"have only {names}; choose another split.seed, or set pretrain.probe_every to null"
        )
    return source
