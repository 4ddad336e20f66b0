"""The words for what a study counts: persons, or images per class."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Words:
    """Names of what sizes count and of the units of chance in the test, one and several."""

    label: str
    labels: str
    test: str
    tests: str

    def tested(self, count: int) -> str:
        """Return how many are in the test.

        Examples
        --------
        >>> WORDS["person"].tested(1), WORDS["person"].tested(8)
        ('1 test person', '8 test persons')
        """
        return f"{count} test {self.test if count == 1 else self.tests}"

    def having(self, sizes: Sequence[int]) -> str:
        """Return sizes in words.

        Examples
        --------
        >>> WORDS["person"].having([1, 2, 10]), WORDS["per_class"].having([1])
        ('with 1, 2 and 10 labelled persons', 'with 1 labelled image per class')
        """
        listed = [", ".join(map(str, part)) for part in (sizes[:-1], sizes[-1:]) if part]
        counted = self.label if list(sizes) == [1] else self.labels
        return f"with {' and '.join(listed)} labelled {counted}"


WORDS = {
    "person": Words("person", "persons", "person", "persons"),
    "per_class": Words("image per class", "images per class", "block", "blocks"),
}
