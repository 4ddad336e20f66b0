"""What preparing raw files into a store came to."""

from dataclasses import dataclass, field


@dataclass
class Report:
    """What an ingest did: records written, there before, and refused with the reason."""

    written: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    warnings: dict[str, list[str]] = field(default_factory=dict)
    left_out: dict[str, list[str]] = field(default_factory=dict)
