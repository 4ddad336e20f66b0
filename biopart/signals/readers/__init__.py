"""Readers: turn a file of any supported format into a Recording."""

from biopart.signals.readers.opening import open_recording

__all__ = ["open_recording"]
