"""Collections of images into stores: folders of classes and CIFAR's own files."""

from biopart.images.ingest import ingest_images

__all__ = ["ingest_images"]
