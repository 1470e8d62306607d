"""The layer that class activation maps of a model are usually taken at."""

from collections import Counter
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from counterpoint import layers
from counterpoint.cut import open_cut
from counterpoint.equality import tensors_in
from counterpoint.errors import LayerError
from counterpoint.everything_through import passed_by
from counterpoint.layers import Seen
from counterpoint.layout_finding import NoLayout, layouts_of
from counterpoint.layouts import Layout
from counterpoint.state import left_as_found

# They average or repeat cells to a fixed number, and are no place to look at.
_TO_A_FIXED_SIZE = (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)


def default_map_layer(module: nn.Module, inputs: Float[Tensor, "batch *input"]) -> str:
    """The last layer with maps or a grid of tokens that is a real cut, and where the output's gradient reaches the places.

    In a convolutional network that is the last block. A vision transformer that reads its class token is another matter. After the last
    block, and after the last norm, the gradient is zero at every patch: a map would be empty. Inside the last block it is not, but a skip
    connection passes by every layer there, the first norm included, so that they are no cuts. What remains is the output of the block
    before. A transformer that averages its patches is taken at its last norm.

    Where several layers return the same tensor, it is the first of these or the outermost block that ends with it: "layer4", not
    "layer4.1.relu". Pooling to a fixed size, layers with one place, and maps of classes (as many channels as the model's own output,
    where that is maps) are left out.

    Args:
        module: The network, with its wrappers.
        inputs: Images; the first is run.

    Raises:
        LayerError: no layer has maps, or none of these is a real cut.
    """
    if inputs.ndim != 4:
        raise LayerError(
            f"there is no usual layer with maps for inputs {tuple(inputs.shape)}, which are no images; name the layer."
        )
    example = inputs[:1].detach().clone()
    with torch.inference_mode(False), torch.enable_grad(), left_as_found(module):
        # The input has a gradient too, where the weights are frozen the only one. Cloned: a leaf cannot be worked on in place.
        seen, output = layers.run_and_output(module, example.clone().requires_grad_().clone())
        candidates = _candidates(module, seen, output, (example.shape[2], example.shape[3]))
        # A head of zeros, as some networks have before training, has no gradient: then that of what it reads.
        reached = _reached(candidates, output) or _reached(candidates, _last_read(seen))
    if not candidates:
        raise LayerError(
            "no layer returns maps (batch, channel, height > 1, width > 1) or a grid of tokens; name the layer."
        )
    ordered = [name for name, _, _ in candidates if name in reached]
    passed = passed_by(module, example)
    refusal: LayerError | None = None
    for name in ordered or [name for name, _, _ in candidates]:
        if passed.get(name):
            continue
        try:
            open_cut(module, name, example)
            return name
        except LayerError as error:
            refusal = refusal or error
    raise refusal or LayerError("no layer with maps is a real cut; name the layer, with bypass='intervene'.")


Candidate = tuple[str, Seen, Layout]


def _candidates(
    module: nn.Module, seen: list[Seen], output: Any, image_size: tuple[int, int]
) -> list[Candidate]:
    """Layers with more than one place, the last first, one for each tensor."""
    classes = {each.shape[1] for each in tensors_in(output) if each.ndim == 4}
    runs = Counter(each.name for each in seen)
    own: dict[tuple[int, int], list[Seen]] = {}
    for each in (one for one in seen if runs[one.name] == 1):
        own.setdefault((each.output.untyped_storage().data_ptr(), each.version), []).append(each)
    chosen = [_outermost(group) for group in own.values()]
    layouts = layouts_of(module, seen, image_size, {each.name for each in chosen})
    place = {id(each): k for k, each in enumerate(seen)}
    found: list[Candidate] = []
    for each in sorted(chosen, key=lambda one: -place[id(one)]):
        layout = layouts[each.name]
        if isinstance(layout, NoLayout) or isinstance(each.module, _TO_A_FIXED_SIZE):
            continue
        (maps,) = layout.maps(each.output)
        if maps.shape[2] * maps.shape[3] > 1 and maps.shape[1] not in classes:
            found.append((each.name, each, layout))
    return found


def _outermost(group: list[Seen]) -> Seen:
    """The first that returned the tensor, or the outermost block around it that did."""
    first = group[0]
    around = [each for each in group if first.name.startswith(each.name + ".")]
    return min(around, key=lambda each: each.name.count("."), default=first)


def _last_read(seen: list[Seen]) -> Any:
    """What the last linear layer reads."""
    return next((each.read for each in reversed(seen) if isinstance(each.module, nn.Linear)), None)


def _reached(candidates: list[Candidate], output: Any) -> set[str]:
    """The names of those at whose places the gradient of a mixture of all outputs is not zero everywhere."""
    ends = [each for each in tensors_in(output) if each.requires_grad and each.is_floating_point()]
    places = [each for each in candidates if each[1].output.requires_grad]
    if not ends or not places:
        return set()
    generator = torch.Generator().manual_seed(0)
    mixed = [(end * torch.rand(end.shape, generator=generator).to(end)).sum().double() for end in ends]
    gradients = torch.autograd.grad(
        torch.stack(mixed).sum(),
        [seen.output for _, seen, _ in places],
        allow_unused=True,
        retain_graph=True,
    )
    return {
        name
        for (name, _, layout), gradient in zip(places, gradients, strict=True)
        if gradient is not None and any(bool(each.any()) for each in layout.maps(gradient))
    }
