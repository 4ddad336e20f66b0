"""Readers: a file of any supported format becomes a Recording."""

from biopart.signals.readers.opening import open_recording

__all__ = ["open_recording"]
