"""Mask R-CNN on a plain ViT: boxes, classes and masks of the objects in images.

Torchvision's Mask R-CNN (arXiv 1703.06870) on ViTDet's trunk (arXiv 2203.16527); images only.
"""

import torch
from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.ops import MultiScaleRoIAlign

from biopart.data import Batch, SceneBatch, StepOutput
from biopart.nn import Encoder, ViT
from biopart.nn.pyramid import STRIDES, Pyramid, Trunk
from biopart.recipe import DetectSettings

__all__ = ["Detect"]


class Detect(nn.Module):
    """Losses of proposals, classes, boxes and masks.

    Parameters
    ----------
    encoder : Encoder
        With the blocks of a ViT, for the shape of the canvas; all its weights are trained except
        [CLS].
    settings : DetectSettings
        Classes, windows, pyramid, anchors.
    """

    def __init__(self, encoder: Encoder, settings: DetectSettings) -> None:
        super().__init__()
        self.settings = settings
        trunk = Trunk(encoder, window=settings.window, global_blocks=settings.global_blocks)
        levels = [str(number) for number in range(len(STRIDES))]
        sides = [settings.anchor << number for number in range(len(STRIDES) + 1)]
        width = settings.channels
        self.model = MaskRCNN(
            Pyramid(trunk, width),
            min_size=min(encoder.shape),
            max_size=max(encoder.shape),
            image_mean=[0.0] * encoder.channels,  # values are already normalised
            image_std=[1.0] * encoder.channels,
            _skip_resize=True,
            rpn_anchor_generator=AnchorGenerator(
                tuple((side,) for side in sides), ((0.5, 1.0, 2.0),) * len(sides)
            ),
            box_roi_pool=MultiScaleRoIAlign(levels, 7, 2),
            box_head=TwoMLPHead(width * 49, settings.box_dim),
            box_predictor=FastRCNNPredictor(settings.box_dim, settings.classes + 1),
            box_batch_size_per_image=settings.proposals,
            mask_roi_pool=MultiScaleRoIAlign(levels, 14, 2),
            mask_head=MaskRCNNHeads(width, (width,) * 4, 1),
            mask_predictor=MaskRCNNPredictor(width, width, settings.classes + 1),
        )

    @property
    def encoder(self) -> ViT:
        """The encoder under the pyramid."""
        found: ViT = self.model.backbone.trunk.encoder
        return found

    def forward(
        self, batch: Batch, generator: torch.Generator | None = None, progress: float = 0.0
    ) -> StepOutput:
        """Compute the losses for the objects of normalised canvases (B, C, *S)."""
        if not isinstance(batch, SceneBatch):
            raise ValueError("a detector trains on canvases with their objects; give a SceneSource")
        losses: dict[str, Tensor] = self.model(list(batch.values.float()), batch.targets)
        metrics = {name.removeprefix("loss_"): loss.detach() for name, loss in losses.items()}
        return StepOutput(torch.stack(list(losses.values())).sum(), metrics)

    @torch.no_grad()
    def predict(self, values: Tensor) -> list[dict[str, Tensor]]:
        """Detect objects on normalised canvases (B, C, *S).

        Returns
        -------
        list of dict
            For each canvas ``boxes`` (n, 4) as left, top, right, bottom, ``labels`` (n,) from 1 on,
            ``scores`` (n,) and ``masks`` (n, 1, S, S) from 0 to 1, best first.
        """
        found: list[dict[str, Tensor]] = self.model(list(values.float()))
        return found
