"""Whether a store is prepared as the one that a model was trained on."""

from biopart.data import Cohort
from biopart.nn import About


def check_fit(about: About, cohort: Cohort, *, prepared: bool = True) -> None:
    """Refuse a store that was made otherwise than the one a model was trained on.

    Parameters
    ----------
    about : About
        Of the model.
    cohort : Cohort
        The store.
    prepared : bool
        Compare what the card says of the values too.
    """
    card = cohort.attributes["card"]
    wanted = {
        "sfreq_hz": about.sfreq_hz,
        "epoch_s": about.epoch_s,
        "label_names": list(about.label_names),
    }
    stored = {key: cohort.attributes.get(key) for key in wanted}
    if prepared:
        wanted |= about.prepared
        stored |= {key: card.get(key) for key in about.prepared}
    differing = [
        f"{key} {wanted[key]} and {stored[key]}" for key in wanted if wanted[key] != stored[key]
    ]
    if differing:
        raise ValueError(
            f"the model's store and {cohort.path} were prepared differently: {'; '.join(differing)}"
        )
