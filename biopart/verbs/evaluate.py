"""Score a fine-tuned model on persons that it has never seen, and load one."""

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor, nn

from biopart.codes import MISSING
from biopart.compute import open_fabric
from biopart.data import Cohort, Source, open_cohort
from biopart.files import write_json
from biopart.nn import Classifier, Normalise
from biopart.nn.sequence import SequenceClassifier
from biopart.nn.weights import load_model
from biopart.recipe import ComputeSettings, Normalisation
from biopart.run import Run, as_run
from biopart.settings import checked
from biopart.store.persons import Met
from biopart.train import predict
from biopart.verbs.context import Nights, classify
from biopart.verbs.experiment import refuse_seen, some
from biopart.verbs.scoring import scored


def load(run: Run | Path | str) -> nn.Module:
    """Load a fine-tuned model.

    Parameters
    ----------
    run : Run or path
        A fine-tuning, or a run whose newest fine-tuning is taken.

    Returns
    -------
    nn.Module
        ``model(values (B, C, *S)) -> logits (B, classes)``; normalises by itself, any scale. With
        context: ``model(values (B, L, C, *S)) -> logits (B, L, classes)``; windows of nothing but
        missing samples (NaN, or -32768 of int16) are not there.
    """
    folder = as_run(run)
    classifier, about = load_model(folder.finetuned().model)
    if isinstance(classifier, SequenceClassifier):
        model: nn.Module = Sequences(about["normalise"], classifier)
    else:
        parts = OrderedDict(normalise=Normalise(about["normalise"]), classifier=classifier)
        model = nn.Sequential(parts)
    model.about = about  # type: ignore[assignment]  # what it was trained on, for stage_night
    return model.eval()


class Sequences(nn.Module):
    """Normalise windows one by one and classify them by their neighbours."""

    def __init__(self, normalise: Normalisation, classifier: SequenceClassifier) -> None:
        super().__init__()
        self.normalise, self.classifier = Normalise(normalise), classifier

    def forward(self, values: Tensor) -> Tensor:
        """Classify windows (B, L, C, *S) -> logits (B, L, classes)."""
        absent = values.isnan() if values.is_floating_point() else values == MISSING
        windows = self.normalise(values.flatten(0, 1)).reshape(values.shape)
        logits: Tensor = self.classifier(windows, ~absent.flatten(2).all(-1))
        return logits


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
        A fine-tuning, or a run whose newest fine-tuning is taken.
    store : Path or str
        Prepared by the card that the model was trained on.
    persons : sequence of str, optional
        Everybody in the store by default, of images those that the model has not seen; windows
        without a label are not scored.
    device : str
        auto, cpu or cuda:N.

    Returns
    -------
    dict
        As result.json; also written to ``evaluation/<store>/result.json`` of the fine-tuning.

    Raises
    ------
    ValueError
        If a person was seen in pretraining, fine-tuning or early stopping, is not in the store,
        or the store does not fit the model.
    """
    tuned = as_run(run).finetuned()
    model, about = load_model(tuned.model)
    cohort = open_cohort(store)
    known = sorted({person for people in cohort.people.values() for person in people})
    met, dataset = Met.of(about), str(cohort.attributes["card"].get("name", ""))
    both = met.among(dataset, known, cohort)
    everyone = set(known) - (set(both) if cohort.holds_images else set())
    wanted = sorted(everyone if persons is None else set(persons))
    absent = [person for person in wanted if person not in known]
    if absent or not wanted:
        raise ValueError(
            f"{store} has no person {some(absent) or '(none given)'}; it has "
            f"{len(known)}, for instance {', '.join(known[:5])}"
        )
    check_fit(about, cohort)
    refuse_seen(sorted(set(wanted) & set(both)))
    fabric = open_fabric(
        checked(ComputeSettings, {"device": device, "precision": "float32"}, "option --device")
    )
    source, logits = answers(model, about, cohort, wanted, fabric=fabric)
    result = scored(source, logits.argmax(1)) | {
        **({} if cohort.holds_images else {"test_persons": wanted}),
        "model": str(tuned.path),
        "store": str(store),
        **_counted(cohort, source, wanted, n_left_out=len(known) - len(wanted)),
    }
    write_json(tuned.path / "evaluation" / Path(store).name / "result.json", result)
    return result


def _counted(
    cohort: Cohort, source: Source, wanted: Sequence[str], *, n_left_out: int
) -> dict[str, Any]:
    """Return of how many persons or images there were scores, and who had no label."""
    scored_ones = set(source.persons)
    unlabelled = [person for person in wanted if person not in scored_ones]
    unit = "images" if cohort.holds_images else "persons"
    found: dict[str, Any] = {
        f"n_{unit}_scored": len(scored_ones),
        f"n_{unit}_not_asked": n_left_out,
    }
    found[f"n_{unit}_without_label"] = len(unlabelled)
    return found if cohort.holds_images else {**found, "persons_without_label": unlabelled}


def answers(
    model: Classifier | SequenceClassifier,
    about: dict[str, Any],
    cohort: Cohort,
    persons: Sequence[str],
    *,
    fabric: Fabric,
) -> tuple[Source, NDArray[np.float32]]:
    """Return the labelled windows of persons and a model's logits of them (W, classes)."""
    window_s = None if cohort.holds_images else about["encoder"]["shape"][0] / cohort.sfreq_hz

    def source(labelled: bool, context: int) -> Source:
        return cohort.source(
            about["channels"], window_s, labelled, context, keep_bad=True, persons=persons
        )

    model = model.to(fabric.device)
    if isinstance(model, Classifier):
        single = source(True, 1)
        return single, predict(model, single, fabric, about["normalise"])
    nights = Nights(source(True, model.context), source(False, 1))
    windows = nights.embedded(model, fabric, about["normalise"], frozen=True)
    return nights.items, classify(model, windows, fabric)


def check_fit(about: dict[str, Any], cohort: Cohort) -> None:
    """Refuse a store that was made otherwise than the one a model was trained on."""
    card = cohort.attributes["card"]
    keys = ("sfreq_hz", "epoch_s", "label_names")
    wanted = {key: about[key] for key in keys} | about["prepared"]
    found = {key: cohort.attributes.get(key) for key in keys}
    found |= {key: card.get(key) for key in about["prepared"]}
    differing = [
        f"{key} {wanted[key]} and {found[key]}" for key in wanted if wanted[key] != found[key]
    ]
    if differing:
        raise ValueError(
            f"the model's store and {cohort.path} were prepared differently: {'; '.join(differing)}"
        )
