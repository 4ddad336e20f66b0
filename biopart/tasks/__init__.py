"""Downstream tasks, one file each: what is trained on what, and how it is scored."""
