"""Which persons have which classes: warnings before anything is trained."""

from collections.abc import Sequence

import numpy as np

from biopart.data import Source
from biopart.experiment.experiment import Experiment, listed


def class_holders(source: Source) -> dict[str, list[str]]:
    """Return the persons who have each label of a source, by label name."""
    names = source.cohort.label_names
    persons = np.array(source.persons)
    return {
        name: sorted(set(persons[source.labels == code].tolist()))
        for code, name in enumerate(names)
    }


def check_classes(experiment: Experiment, source: Source) -> list[str]:
    """Warn of classes that the drawn persons lack; refuse fewer than two."""
    holders = class_holders(source)
    absent = [name for name, persons in holders.items() if not persons]
    if len(holders) - len(absent) < 2:
        present = ", ".join(name for name in holders if name not in absent)
        drawn = listed(sorted(set(source.persons)))
        raise ValueError(
            f"the {source.kind.units} drawn ({drawn}) have only {present}; draw more subjects or "
            "another --seed"
        )
    everyone = class_holders(experiment.source(experiment.split.finetune, labelled=True))
    return [
        f"no {source.kind.item} of {name} among the {source.kind.units} drawn; "
        f"{holders_text(everyone[name])}"
        for name in absent
    ]


def check_test(experiment: Experiment, test: Source) -> list[str]:
    """Warn of classes that the test persons lack; refuse fewer than two before any training."""
    holders = class_holders(test)
    absent = [name for name, persons in holders.items() if not persons]
    if len(holders) - len(absent) < 2:
        raise ValueError(
            f"the test {test.kind.units} ({listed(sorted(set(test.persons)))}) have fewer than two "
            "classes; raise split.test_persons or take another split.seed"
        )
    others = class_holders(experiment.cohort.source(labelled=True, keep_bad=True))
    return [
        f"no {test.kind.item} of {name} among the test {test.kind.units}; "
        f"{holders_text(others[name])}"
        for name in absent
    ]


def holders_text(persons: Sequence[str]) -> str:
    """Return the persons who have a class as the end of a sentence.

    Examples
    --------
    >>> holders_text(["p1", "p2"]), holders_text([])
    ('p1, p2 have it', 'nobody has it')
    """
    if not persons:
        return "nobody has it"
    return f"{listed(persons)} {'has' if len(persons) == 1 else 'have'} it"
