"""Meaning of the numbers of a hypnogram: stated, unambiguous from the file, or refused."""

from collections.abc import Collection, Mapping

from biopart.store.label_rules import CODES, UNSCORED

_ALWAYS_UNSCORED = (6, 7, 8, 9)  # movement, artefact, indeterminate, unscored in every convention
_REMEDY = "state their meaning with labels.codes (--codes): " + ", ".join(CODES)


def meanings(
    numbers: Collection[int],
    given: Mapping[int, str] | None,
    *,
    spelled: bool,
    first: int | None = None,
) -> tuple[dict[int, str], str]:
    """Return the stage of each number of a hypnogram, and a sentence if it was inferred.

    Parameters
    ----------
    numbers
        All numbers that occur.
    given
        The codes that a card states; None = none.
    spelled
        Whether other stages of the hypnogram are words, as in PhysioNet's slpdb (W 1 2 3 4 R).
    first
        The first number of the night; nights begin awake.

    Returns
    -------
    stages, sentence
        ``?`` = unscored; numbers without a meaning are omitted. The sentence is empty if nothing
        was inferred.

    Raises
    ------
    ValueError
        If no codes are stated and the numbers fit several conventions, or none.

    Examples
    --------
    >>> meanings([0, 2, 5], None, spelled=False)[0]
    {0: 'W', 2: 'N2', 5: 'R'}
    >>> meanings([1, 4], None, spelled=True)[0], meanings([-1, 1], {1: "R"}, spelled=False)[0]
    ({1: 'N1', 4: 'N3'}, {-1: '?', 1: 'R'})
    """
    negative = {number: UNSCORED for number in numbers if number < 0}
    if given is not None:
        return negative | {n: given[n] for n in numbers if n in given}, ""
    scored = sorted(n for n in set(numbers) if n >= 0 and n not in _ALWAYS_UNSCORED)
    unscored = negative | {n: UNSCORED for n in numbers if n in _ALWAYS_UNSCORED}
    if spelled and set(scored) <= {1, 2, 3, 4}:
        return unscored | {n: CODES["rk"][n] for n in scored}, ""
    listed = ", ".join(map(str, scored))
    if set(scored) - set(range(6)):
        raise ValueError(f"the stages {listed} fit no known convention; {_REMEDY}")
    if 4 in scored:
        why = "0 to 5 may be R&K, UCDDB or DREAMS" if 5 in scored else "4 may be S4 or REM"
        raise ValueError(f"the stages {listed} are ambiguous ({why}); {_REMEDY}")
    if first == 5:
        why = "the night begins with 5, which is W in DREAMS and REM in others"
        raise ValueError(f"the stages {listed} are ambiguous ({why}); {_REMEDY}")
    sentence = f"the stages {listed} were read as aasm (0 W, 1 N1, 2 N2, 3 N3, 5 R)"
    return unscored | {n: CODES["aasm"][n] for n in scored}, sentence if scored else ""
