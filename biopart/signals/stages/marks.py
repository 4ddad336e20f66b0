"""From the texts of annotations to stages: what is known, what is an event, what is neither."""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from biopart.signals.recording import Mark
from biopart.signals.stages.numbers import meanings
from biopart.signals.stages.words import is_event, plain_text, stage_code
from biopart.store.label_rules import EVENT, STAGES, UNSCORED, StageLabels

_NUMBER = re.compile(r"[+-]?\d+(?:\.0*)?")
_MOST_SPELLINGS = 8


@dataclass(frozen=True)
class Staging:
    """The stages among some marks.

    Attributes
    ----------
    marks : tuple of Mark
        In order of their onset; texts are W, N1, N2, N3, R and ``?`` for unscored.
    known : int
        How many of them are known stages or known to be unscored.
    warnings : tuple of str
        What was concluded, and what was not known.
    """

    marks: tuple[Mark, ...]
    known: int
    warnings: tuple[str, ...]


def stages_among(marks: Iterable[Mark], rule: StageLabels, *, events: bool = True) -> Staging:
    """Find the stages among marks.

    A text that is neither a known stage nor a known event is unscored and ends the stage before
    it, unless it lies inside a stage whose duration is stated.

    Parameters
    ----------
    marks
        Annotations of a recording or rows of a hypnogram.
    rule
        Words and codes that the card adds.
    events
        Whether events lie between the stages; in a list of epochs each text is a stage.

    Raises
    ------
    ValueError
        If numbers among them are ambiguous.
    """
    ordered = sorted(marks, key=lambda mark: mark.onset_s)
    names, sentence = spellings({mark.text for mark in ordered}, rule, events=events)
    kept, known, end_s = [], 0, float("-inf")
    strange: Counter[str] = Counter()
    for mark in ordered:
        name = names[mark.text]
        if name == EVENT:
            continue
        if name is None:
            if mark.onset_s < end_s:
                continue
            strange[mark.text] += 1
        else:
            known += 1
            end_s = mark.onset_s + (mark.duration_s or 0.0)
        kept.append(replace(mark, text=name or UNSCORED))
    warnings = [sentence] if sentence else []
    if strange:
        warnings.append(unknown_sentence(strange))
    return Staging(tuple(kept), known, tuple(warnings))


def spellings(
    texts: Collection[str], rule: StageLabels, *, events: bool = True
) -> tuple[dict[str, str | None], str]:
    """Return the stage of each text, ``event`` for events, None for what is not known.

    The sentence tells what was concluded of numbers; empty where nothing was.
    """
    own = {plain_text(word): stage or UNSCORED for word, stage in rule.words.items()}
    names: dict[str, str | None] = {}
    numbers: dict[str, int] = {}
    for text in texts:
        plain = plain_text(text)
        if plain in own:
            names[text] = own[plain]
        elif _NUMBER.fullmatch(text.strip()):
            numbers[text] = int(float(text))
        else:
            code = stage_code(text)
            named = None if code is None else (*STAGES, UNSCORED)[code]
            names[text] = EVENT if named is None and events and is_event(text) else named
    spelled = any(name in STAGES for name in names.values())
    found, sentence = meanings(set(numbers.values()), rule.meanings, spelled=spelled)
    return names | {text: found.get(number) for text, number in numbers.items()}, sentence


def unknown_sentence(strange: Mapping[str, int]) -> str:
    """Say how many marks are no known stage, and how they are spelled."""
    ordered = sorted(strange.items(), key=lambda item: -item[1])
    listed = [f"{text!r} ({count})" for text, count in ordered[:_MOST_SPELLINGS]]
    more = len(ordered) - len(listed)
    return (
        f"{sum(strange.values())} marks are no known stage and count as unscored: "
        f"{', '.join(listed)}{f' and {more} other spellings' if more else ''}; "
        "name them by labels.words"
    )


def no_stage_sentence(name: str, texts: Sequence[str]) -> str:
    """Say that none of the annotations of a file is a stage, with the commonest spellings."""
    common = ", ".join(repr(text) for text, _ in Counter(texts).most_common(_MOST_SPELLINGS))
    if not texts:
        return f"{name} has no annotations, so no sleep stages"
    return (
        f"none of the {len(texts)} annotations of {name} is a known sleep stage ({common}); name "
        "them by labels.words"
    )
