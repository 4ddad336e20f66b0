"""Score a fine-tuned model on persons who were not used to train it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lightning_fabric import Fabric
from numpy.typing import NDArray

from biopart.addresses import place
from biopart.compute import open_fabric
from biopart.data import Cohort, Source, open_cohort
from biopart.experiment.experiment import listed, refuse_seen
from biopart.experiment.fitting import check_fit
from biopart.files import write_json
from biopart.nn import Classifier, Model
from biopart.nn.sequence import SequenceClassifier
from biopart.recipe import ComputeSettings
from biopart.run import Run, as_run
from biopart.settings import checked
from biopart.tasks.context import Nights
from biopart.train import predict


def evaluate(
    run: Run | Path | str,
    store: Path | str,
    persons: Sequence[str] | None = None,
    *,
    device: str = "auto",
) -> dict[str, Any]:
    """Score a fine-tuned model on persons of a store.

    Parameters
    ----------
    run : Run or path
        A fine-tuning, or a run, whose newest fine-tuning is used.
    store : Path or str
        Prepared with the card of the model's training data.
    persons : sequence of str, optional
        By default all in the store; for images, those that the model has not seen. Windows without
        a label are not scored.
    device : str
        auto, cpu or cuda:N.

    Returns
    -------
    dict
        As in result.json; also written to ``evaluation/<store>/result.json`` of the fine-tuning.

    Raises
    ------
    ValueError
        If a person was seen in pretraining, fine-tuning or early stopping, is not in the store,
        or the store does not fit the model.
    """
    tuned = as_run(run).finetuned()
    model = Model.load(tuned)
    cohort = open_cohort(store)
    everybody = sorted({person for people in cohort.people.values() for person in people})
    seen = model.about.seen.among(cohort, everybody)
    wanted = sorted(set(persons)) if persons is not None else cohort.kind.open_to(everybody, seen)
    absent = sorted(set(wanted).difference(everybody))
    if absent or not wanted:
        raise ValueError(
            f"{store} has no person {listed(absent) or '(none given)'}; it has "
            f"{len(everybody)}, for instance {', '.join(everybody[:5])}"
        )
    check_fit(model.about, cohort)
    refuse_seen(sorted(set(wanted) & set(seen)))
    fabric = open_fabric(
        checked(ComputeSettings, {"device": device, "precision": "float32"}, "option --device")
    )
    source, logits = labelled_logits(model, cohort, wanted, fabric)
    result = {
        **cohort.kind.named("test", wanted),
        **source.score(logits.argmax(1)),
        "model": str(tuned.path),
        "store": str(store),
        **cohort.kind.counted(wanted, source.persons, n_left_out=len(everybody) - len(wanted)),
    }
    write_json(tuned.path / "evaluation" / place(store).name / "result.json", result)
    return result


def labelled_logits(
    model: Model, cohort: Cohort, persons: Sequence[str], fabric: Fabric
) -> tuple[Source, NDArray[np.float32]]:
    """Return the labelled windows of persons and a model's logits of them (W, classes)."""
    window_s = cohort.kind.window_s(model.encoder.shape[0], model.about.sfreq_hz)

    def source(labelled: bool, context: int) -> Source:
        about = model.about
        return cohort.source(
            about.channels,
            window_s,
            labelled,
            context,
            keep_bad=True,
            persons=persons,
            by_recording=about.by_recording,
        )

    net = model.net.to(fabric.device)
    if isinstance(net, SequenceClassifier):
        nights = Nights(source(True, model.context), source(False, 1))
        return nights.items, nights.logits(net, fabric, model.about.normalise)
    assert isinstance(net, Classifier)
    single = source(True, 1)
    return single, predict(net, single, fabric, model.about.normalise)
