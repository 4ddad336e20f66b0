"""Spellings of persons' names."""

import re


def canonical(person: str) -> str:
    """Return what all spellings of a person have in common.

    Examples
    --------
    >>> canonical("TR03-0005"), canonical("tr3_5"), canonical("tr3-50")
    ('tr3-5', 'tr3-5', 'tr3-50')
    """
    plain = re.sub(r"[\s_.-]+", "-", person.strip().casefold())
    return re.sub(r"\d+", lambda digits: str(int(digits[0])), plain)
