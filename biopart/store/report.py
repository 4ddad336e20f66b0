"""What preparing raw files into a store came to."""

from dataclasses import dataclass, field


@dataclass
class Report:
    """What an ingest did with each record.

    ``written`` are new, ``updated`` were written again with what had changed in their sources,
    ``kept`` were there before and are as their sources, ``refused`` have the reason.
    """

    written: list[str] = field(default_factory=list)
    updated: dict[str, list[str]] = field(default_factory=dict)
    kept: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    warnings: dict[str, list[str]] = field(default_factory=dict)
    left_out: dict[str, list[str]] = field(default_factory=dict)
