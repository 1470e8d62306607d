"""A quick order of pixels for those who bring no map: where the top class is sensitive."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from counterpoint.baselines.blurred import Blur
from counterpoint.batching import MicroBatch, in_micro_batches


def smoothed_gradient(
    module: nn.Module, images: Float[Tensor, "images channel height width"]
) -> Float[Tensor, "images height width"]:
    """|gradient| of each image's top class score, summed over channels and blurred over a sixteenth of the image."""

    def gradient(some: Tensor) -> tuple[Tensor]:
        with torch.inference_mode(False), torch.enable_grad():
            leaves = some.clone().requires_grad_()
            (found,) = torch.autograd.grad(module(leaves).amax(1).sum(), leaves)
        return (found.abs().sum(1, keepdim=True),)

    (found,) = in_micro_batches(gradient, images.detach(), micro=MicroBatch.for_inputs(images))
    return Blur(sigma=min(images.shape[2:]) / 16)(found)[:, 0]
