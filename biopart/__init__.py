"""Self-supervised pretraining on biosignals and images by relative translations."""

__version__ = "0.1.0"
