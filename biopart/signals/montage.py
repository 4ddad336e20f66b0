"""Match the channels of a file to the wanted channels, and report the rule for each.

The rules, in order: exact name; name without case, spaces, a leading kind (``EEG C3``) and the
type of separator; synonyms of electrodes. A derivation ``A-B`` that is not a channel becomes the
difference of channels ``A`` and ``B``, or of ``A-X`` and ``B-X``. Aliases precede all of these.

Sources: AASM manual for the names; Nuwer et al. 1998 for T3, T4, T5, T6 = T7, T8, P7, P8.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_KIND = re.compile(r"(eeg|eog|emg|ecg|ekg)\s+(?=\S)")
_SEPARATOR = re.compile(r"[-:/_]")
_SYNONYMS = {
    **{"a1": "m1", "a2": "m2", "loc": "e1", "roc": "e2"},
    **{"t3": "t7", "t4": "t8", "t5": "p7", "t6": "p8"},
}


@dataclass(frozen=True)
class Derivation:
    """A wanted channel: ``plus`` minus ``minus`` (None = nothing), and the rule that matched."""

    name: str
    plus: str
    minus: str | None
    rule: str


def montage(
    available: Sequence[str],
    wanted: Sequence[str],
    aliases: Mapping[str, Sequence[str]] | None = None,
    sources: Mapping[str, str] | None = None,
) -> tuple[Derivation, ...]:
    """Derive every wanted channel from those of a file.

    Parameters
    ----------
    available
        Channel names of the file, each unique; the first match is used.
    wanted
        Names of the wanted channels, in order.
    aliases
        Alternatives for a wanted name, best first; tried before the name itself.
    sources
        The only source for a wanted name: neither its aliases nor its name are tried.

    Raises
    ------
    ValueError
        If a channel cannot be derived: lists the channels of the file and what each rule tried.

    >>> montage(["F3", "A2"], ["F3-M2"])[0].rule
    "'F3' (exact name) minus 'A2' (synonym of the electrodes)"
    """
    aliases, sources = aliases or {}, sources or {}
    derivations = [
        _stated(available, name, sources[name])
        if name in sources
        else _derive(available, name, aliases.get(name, ()))
        for name in wanted
    ]
    found = tuple(derivation for derivation in derivations if derivation is not None)
    if len(found) < len(wanted):
        absent = [name for name, got in zip(wanted, derivations, strict=True) if got is None]
        raise ValueError(_refusal(available, absent, aliases, sources))
    return found


def _stated(available: Sequence[str], name: str, source: str) -> Derivation | None:
    """Match the one source that was stated for a name; None = no match."""
    found = _single(available, source) or _difference(available, source)
    if found is None:
        return None
    plus, minus, rule = found
    return Derivation(name, plus, minus, f"{source}, as stated: {rule}")


def _derive(available: Sequence[str], name: str, aliases: Sequence[str]) -> Derivation | None:
    """Try the aliases of a name, then the name itself; None = no match."""
    for candidate in (*aliases, name):
        found = _single(available, candidate) or _difference(available, candidate)
        if found is None:
            continue
        plus, minus, rule = found
        if candidate in aliases:
            rule = f"alias {candidate}: {rule}"
        elif aliases:
            rule = f"{rule}; its aliases are not in the file: {', '.join(aliases)}"
        return Derivation(name, plus, minus, rule)
    return None


def _single(available: Sequence[str], name: str) -> tuple[str, None, str] | None:
    """Find a channel with this name, and describe the rule."""
    found = _channel(available, name)
    if found is None:
        return None
    channel, rule = found
    return channel, None, rule if channel == name else f"{channel!r} ({rule})"


def _difference(available: Sequence[str], name: str) -> tuple[str, str, str] | None:
    """Find two channels whose difference is the derivation, and describe the rule."""
    parts = [part.strip() for part in _SEPARATOR.split(name)]
    if len(parts) != 2 or not all(parts):
        return None
    pairs = [(_channel(available, parts[0]), _channel(available, parts[1]))]
    references = dict.fromkeys(_plain(channel)[1].partition("-")[2] for channel in available)
    for reference in filter(None, references):
        plus, minus = (_channel(available, f"{part}-{reference}") for part in parts)
        pairs.append((plus, minus))
    for plus, minus in pairs:
        if plus is not None and minus is not None and plus != minus:
            return plus[0], minus[0], f"{plus[0]!r} ({plus[1]}) minus {minus[0]!r} ({minus[1]})"
    return None


def _channel(available: Sequence[str], name: str) -> tuple[str, str] | None:
    """Find the first channel that a rule accepts for this name, and the rule."""
    if name in available:
        return name, "exact name"
    kind, plain = _plain(name)
    channels = [(channel, *_plain(channel)) for channel in available]
    same_kind = [(c, other) for c, own, other in channels if kind is None or own in (kind, None)]
    for channel, other in same_kind:
        if other == plain:
            return channel, "same except for case, spaces, kind or separator"
    for channel, other in same_kind:
        if _canonical(other) == _canonical(plain):
            return channel, "synonym of the electrodes"
    return None


def _plain(name: str) -> tuple[str | None, str]:
    """Split a name into its leading kind, if any, and the rest without case and spaces.

    >>> _plain(" EEG C3:A2"), _plain("Chin 1-Chin 2")
    (('eeg', 'c3-a2'), (None, 'chin1-chin2'))
    """
    name = name.strip().casefold()
    kind = _KIND.match(name)
    rest = name[kind.end() :] if kind else name
    return kind[1] if kind else None, _SEPARATOR.sub("-", "".join(rest.split())).rstrip(".")


def _canonical(plain: str) -> str:
    """Replace every electrode of a plain name by the synonym that represents all of them."""
    return "-".join(_SYNONYMS.get(part, part) for part in plain.split("-"))


def _refusal(
    available: Sequence[str],
    absent: Sequence[str],
    aliases: Mapping[str, Sequence[str]],
    sources: Mapping[str, str],
) -> str:
    """List what was tried for each channel that cannot be derived, and the file's channels."""
    tried = []
    for name in absent:
        wanted = sources.get(name, name)
        plain = _plain(wanted)[1]
        attempts = [f"its aliases {', '.join(aliases[name])}"] if name in aliases else []
        if name in sources:
            attempts = [f"{wanted} alone, as stated"]
        attempts.append(f"the exact name, {plain!r} in any case and separator")
        attempts.append(f"the synonym {_canonical(plain)!r}")
        if plain.count("-") == 1:
            plus, minus = plain.split("-")
            attempts.append(f"{plus!r} minus {minus!r}, alone or with a common reference")
        tried.append(f"{name} cannot be derived (tried {', '.join(attempts)})")
    return (
        f"Channel {'; channel '.join(tried)}; the file has "
        f"{', '.join(map(repr, available)) or 'no channels'}: name one of these as its source."
    )
