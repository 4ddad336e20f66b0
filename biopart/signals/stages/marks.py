"""Turn the texts of annotations into stages, and separate known events from unknown texts."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from biopart.codes import STAGES, is_event, plain_text, stage_code
from biopart.signals.recording import Mark
from biopart.signals.stages.numbers import meanings
from biopart.store.label_rules import EVENT, UNSCORED, StageLabels

_NUMBER = re.compile(r"[+-]?\d{1,6}(?:\.0*)?")
_TOUCH_S = 1.0  # a mark that starts this shortly before the end of another follows it
_MOST_SPELLINGS = 8
_LONG_S = 10.0  # an unknown mark of this length may be meant as a stage


@dataclass(frozen=True)
class Staging:
    """The stages among some marks.

    Attributes
    ----------
    marks : tuple of Mark
        In order of their onset; texts are W, N1, N2, N3, R and ``?`` for unscored.
    known : int
        Number of marks that are known stages or known to be unscored.
    warnings : tuple of str
        Assumptions that were made, and unknown texts.
    """

    marks: tuple[Mark, ...]
    known: int
    warnings: tuple[str, ...]


def stages_among(marks: Iterable[Mark], rule: StageLabels, *, events: bool = True) -> Staging:
    """Find the stages among marks.

    A text that is neither a known stage nor a known event counts as unscored and ends the stage
    before it, unless it lies inside a stage with a stated duration.

    Parameters
    ----------
    marks
        Annotations of a recording or rows of a hypnogram.
    rule
        Words and codes that the card adds.
    events
        Whether events may lie between the stages; in a list of epochs each text is a stage.

    Raises
    ------
    ValueError
        If numbers among them are ambiguous.
    """
    ordered = sorted(marks, key=lambda mark: mark.onset_s)
    names, sentence = spellings([mark.text for mark in ordered], rule, events=events)
    kept: list[Mark] = []
    known, end_s = 0, float("-inf")
    strange: Counter[str] = Counter()
    inside: Counter[str] = Counter()
    against: Counter[str] = Counter()
    for mark in ordered:
        name = names[mark.text]
        if name == EVENT:
            continue
        within = mark.onset_s < end_s - _TOUCH_S
        if name is None:
            if within:
                inside[mark.text] += bool(mark.duration_s and mark.duration_s >= _LONG_S)
                continue
            strange[mark.text] += 1
        else:
            known += 1
            if name == UNSCORED and within and not mark.duration_s:
                continue  # a point inside a stage with a stated duration
            if name != UNSCORED:
                end_s = mark.onset_s + (mark.duration_s or 0.0)
        new = replace(mark, text=name or UNSCORED)
        if kept and _contradicts(kept[-1], new):
            against[f"{kept[-1].text} and {new.text}"] += 1
            new = replace(new, text=UNSCORED)
        kept.append(new)
    warnings = [sentence] if sentence else []
    warnings += [unknown_sentence(strange)] if strange else []
    if inside.total():
        warnings.append(
            f"{_listed(+inside)} lie inside stages with a stated duration and are ignored"
        )
    if against:
        warnings.append(
            f"{against.total()} marks contradict another of the same time and count as unscored: "
            f"{_listed(against)}"
        )
    return Staging(tuple(kept), known, tuple(warnings))


def _contradicts(one: Mark, two: Mark) -> bool:
    """Tell marks of one time that are different stages."""
    together = abs(one.onset_s - two.onset_s) < 0.01
    return together and one.text != two.text and UNSCORED not in (one.text, two.text)


def spellings(
    texts: Sequence[str], rule: StageLabels, *, events: bool = True
) -> tuple[dict[str, str | None], str]:
    """Return the stage of each text in order, ``event`` for events, None = unknown.

    The sentence states what was assumed about numbers; it is empty if nothing was.
    """
    own = {plain_text(word): stage or UNSCORED for word, stage in rule.words.items()}
    names: dict[str, str | None] = {}
    numbers: dict[str, int] = {}
    for text in dict.fromkeys(texts):
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
    first = next((number for number in numbers.values() if number >= 0), None)
    found, sentence = meanings(set(numbers.values()), rule.meanings, spelled=spelled, first=first)
    return names | {text: found.get(number) for text, number in numbers.items()}, sentence


def unknown_sentence(strange: Mapping[str, int]) -> str:
    """Report how many marks are not a known stage, with their spellings."""
    return (
        f"{sum(strange.values())} marks are not a known stage and count as unscored: "
        f"{_listed(strange)}; define words with labels.words, numbers with labels.codes"
    )


def _listed(counts: Mapping[str, int]) -> str:
    """List spellings with their counts, the most frequent first."""
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    listed = ", ".join(f"{text!r} ({count})" for text, count in ordered[:_MOST_SPELLINGS])
    more = len(ordered) - _MOST_SPELLINGS
    return f"{listed} and {more} other spellings" if more > 0 else listed


def no_stage_sentence(name: str, texts: Sequence[str]) -> str:
    """State that no annotation of a file is a stage, with the most frequent spellings."""
    common = ", ".join(repr(text) for text, _ in Counter(texts).most_common(_MOST_SPELLINGS))
    if not texts:
        return f"{name} has no annotations with a text, so no sleep stages"
    return (
        f"none of the {len(texts)} annotations of {name} is a known sleep stage ({common}); define "
        "them with labels.words"
    )
