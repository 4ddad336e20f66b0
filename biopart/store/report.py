"""The outcome of preparing raw files into a store."""

from dataclasses import dataclass, field


@dataclass
class Report:
    """What an ingest did with each record.

    ``written`` are new, ``updated`` were written again because their sources changed, ``kept`` are
    unchanged since an earlier call, ``refused`` have the reason.
    """

    written: list[str] = field(default_factory=list)
    updated: dict[str, list[str]] = field(default_factory=dict)
    kept: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    warnings: dict[str, list[str]] = field(default_factory=dict)
    left_out: dict[str, list[str]] = field(default_factory=dict)
