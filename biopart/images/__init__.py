"""Turn image collections into stores: class folders, tar shards, CIFAR's own files; COCO."""

from biopart.images.ingest import ingest_images

__all__ = ["ingest_images"]
