"""Changed views of whole batches, on their device: augmentation and multi-crop, for any grid."""

from biopart.views.augment import Augment
from biopart.views.multicrop import Views

__all__ = ["Augment", "Views"]
