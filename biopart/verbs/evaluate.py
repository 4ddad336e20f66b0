"""Score a fine-tuned model on persons that it has never seen, and load one."""

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from biopart.compute import open_fabric
from biopart.data import open_cohort
from biopart.nn import Normalise
from biopart.nn.weights import load_classifier
from biopart.recipe import ComputeSettings
from biopart.run import Run, write_json
from biopart.train import predict
from biopart.verbs.finetune import scored


def load(run: Run | Path | str) -> nn.Module:
    """Load a fine-tuned model.

    Parameters
    ----------
    run : Run or path
        A fine-tuning, or a run whose newest fine-tuning is taken.

    Returns
    -------
    nn.Module
        ``model(values (B, C, *S)) -> logits (B, classes)``; normalises by itself, any scale.
    """
    folder = run if isinstance(run, Run) else Run(Path(run))
    classifier, about = load_classifier(folder.finetuned().model)
    parts = OrderedDict(normalise=Normalise(about["normalise"]), classifier=classifier)
    return nn.Sequential(parts).eval()


def evaluate(
    run: Run, store: Path, persons: Sequence[str] | None = None, *, device: str = "auto"
) -> dict[str, Any]:
    """Score a fine-tuned model on persons of a store.

    Parameters
    ----------
    run : Run
        A fine-tuning, or a run whose newest fine-tuning is taken.
    store : Path
        Prepared by the card that the model was trained on.
    persons : sequence of str, optional
        All labelled persons by default.
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
    tuned = run.finetuned()
    model, about = load_classifier(tuned.model)
    cohort = open_cohort(store)
    known = set(cohort.persons.values())
    wanted = sorted(known) if persons is None else list(persons)
    absent = [person for person in wanted if person not in known]
    if absent:
        raise ValueError(f"{store} has no person {', '.join(absent)}; it has {', '.join(known)}")
    seen = sorted(set(wanted) & set(about["seen"]))
    if seen:
        raise ValueError(
            f"the model has seen {', '.join(seen)} in pretraining, fine-tuning or early stopping; "
            "evaluate on other persons"
        )
    for key, found in (("sfreq_hz", cohort.sfreq_hz), ("label_names", list(cohort.label_names))):
        if about[key] != found:
            raise ValueError(f"the model was trained with {key} {about[key]}; {store} has {found}")
    fabric = open_fabric(ComputeSettings(device=device, precision="float32"))
    window_s = model.encoder.shape[0] / cohort.sfreq_hz
    source = cohort.source(
        about["channels"], window_s, labelled=True, keep_bad=True, persons=wanted
    )
    logits = predict(model.to(fabric.device), source, fabric, about["normalise"])
    result = scored(source, logits.argmax(1)) | {
        "test_persons": wanted,
        "model": str(tuned.path),
        "store": str(store),
    }
    write_json(tuned.path / "evaluation" / store.name / "result.json", result)
    return result
