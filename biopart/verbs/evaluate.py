"""Score a fine-tuned model on persons that it has never seen, and load one."""

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from biopart.compute import open_fabric
from biopart.data import Cohort, open_cohort
from biopart.nn import Normalise
from biopart.nn.weights import load_classifier
from biopart.recipe import ComputeSettings
from biopart.run import Run, write_json
from biopart.store.settings import checked
from biopart.train import predict
from biopart.verbs.experiment import refuse_seen, some
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
    tuned = run.finetuned()
    model, about = load_classifier(tuned.model)
    cohort = open_cohort(store)
    known = sorted({person for people in cohort.people.values() for person in people})
    everyone = set(known) - (set(about["seen"]) if cohort.holds_images else set())
    wanted = sorted(everyone if persons is None else set(persons))
    absent = [person for person in wanted if person not in known]
    if absent or not wanted:
        raise ValueError(
            f"{store} has no person {some(absent) or '(none given)'}; it has "
            f"{len(known)}, for instance {', '.join(known[:5])}"
        )
    refuse_seen(wanted, about["seen"])
    check_fit(about, cohort)
    fabric = open_fabric(
        checked(ComputeSettings, {"device": device, "precision": "float32"}, "option --device")
    )
    window_s = None if cohort.holds_images else model.encoder.shape[0] / cohort.sfreq_hz
    source = cohort.source(
        about["channels"], window_s, labelled=True, keep_bad=True, persons=wanted
    )
    logits = predict(model.to(fabric.device), source, fabric, about["normalise"])
    result = scored(source, logits.argmax(1)) | {
        **({} if cohort.holds_images else {"test_persons": wanted}),
        "model": str(tuned.path),
        "store": str(store),
    }
    write_json(tuned.path / "evaluation" / store.name / "result.json", result)
    return result


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
