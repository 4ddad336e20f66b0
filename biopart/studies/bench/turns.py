"""Time calls in turns, and compare measurements with the limits that they should keep."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

Seconds = dict[str, list[float]]


@dataclass(frozen=True)
class Timing:
    """Seconds of calls by name, one value per turn: on the clock, and of this process's CPUs.

    On a machine that does nothing else and with one thread the two are the same; where other
    processes take their share, ratios of CPU seconds suffer less.
    """

    wall: Seconds
    cpu: Seconds

    def medians(self) -> dict[str, float]:
        """Return medians over turns under ``<name>_s`` and ``<name>_cpu_s``.

        Examples
        --------
        >>> Timing({"a": [3.0, 1.0, 2.0]}, {"a": [4.0, 4.0, 4.0]}).medians()
        {'a_s': 2.0, 'a_cpu_s': 4.0}
        """
        wall = {f"{name}_s": median(values) for name, values in self.wall.items()}
        return wall | {f"{name}_cpu_s": median(values) for name, values in self.cpu.items()}

    def ratio(self, name: str, *parts: str) -> float:
        """Return the median of a call over the sum of the medians of others.

        Examples
        --------
        >>> Timing({"whole": [6.0], "a": [1.0], "b": [2.0]}, {}).ratio("whole", "a", "b")
        2.0
        """
        return median(self.wall[name]) / sum(median(self.wall[part]) for part in parts)

    def cpu_ratio(self, name: str, *parts: str) -> float:
        """Return the same ratio of CPU seconds."""
        return Timing(self.cpu, {}).ratio(name, *parts)

    def ratio_of_turns(self, name: str, *parts: str) -> float:
        """Return the median over turns of a call's seconds over the sum of others'.

        Examples
        --------
        >>> Timing({"a": [2.0, 9.0, 4.0], "b": [1.0, 3.0, 1.0]}, {}).ratio_of_turns("a", "b")
        3.0
        """
        sums = [sum(turn) for turn in zip(*(self.wall[part] for part in parts), strict=True)]
        ratios = [a / b for a, b in zip(self.wall[name], sums, strict=True)]
        return float(median(ratios))


def in_turns(calls: Mapping[str, Callable[[], object]], repeats: int) -> Timing:
    """Time calls in turns, A B A B ..., after one round that is not counted.

    Examples
    --------
    >>> {name: len(s) for name, s in in_turns({"a": int, "b": str}, 3).wall.items()}
    {'a': 3, 'b': 3}
    """
    timing = Timing({name: [] for name in calls}, {name: [] for name in calls})
    for turn in range(repeats + 1):
        for name, call in calls.items():
            wall, cpu = time.perf_counter(), time.process_time()
            call()
            if turn:
                timing.cpu[name].append(time.process_time() - cpu)
                timing.wall[name].append(time.perf_counter() - wall)
    return timing


def limited(
    figures: dict[str, Any],
    key: str,
    *,
    at_most: float | None = None,
    at_least: float | None = None,
) -> dict[str, Any]:
    """Put the limit of a figure beside it, and whether it is kept.

    Examples
    --------
    >>> limited({"ratio": 1.2}, "ratio", at_most=1.5)
    {'ratio': 1.2, 'ratio_at_most': 1.5, 'kept': True}
    """
    if at_most is not None:
        return {**figures, f"{key}_at_most": at_most, "kept": figures[key] <= at_most}
    assert at_least is not None
    return {**figures, f"{key}_at_least": at_least, "kept": figures[key] >= at_least}
