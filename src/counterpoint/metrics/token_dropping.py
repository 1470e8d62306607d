"""Taking patches out of the sequence of tokens that a transformer works on: where that can be done, and how.

The place is the first one at which a module is handed, or returns, tokens (rows, tokens, channels) such that

- no attention came before it: until then each token knows of its own patch alone;
- tokens that are exchanged there leave the score as it is, but for rounding: every position has been added, and nothing behind the place
  asks where a token lies;
- the model runs with fewer of them.

All three are tried out on the model itself, with its first image. Windows, rotary or relative positions, convolutions between tokens and
fixed token counts fail the second or the third.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from counterpoint.activations import FUSED, name_of
from counterpoint.errors import LayerError
from counterpoint.layers import eager, own_name, unwrapped
from counterpoint.layouts import Tokens
from counterpoint.protocols import ModuleScore
from counterpoint.token_grids import statements, tokens_layout

# How far a score may move, as a share of its size, when tokens are exchanged: rounding in another order.
# Hugging Face's plain attention takes its softmax in float32 whatever the type.
_ROUNDING = {torch.float64: 1e-5, torch.float32: 1e-4}
_ROUNDING_16_BITS = 0.03

# What a model may answer to a number of tokens that it was not made for.
_FAILURES = (RuntimeError, ValueError, AssertionError, IndexError, TypeError)


@dataclass(frozen=True, eq=False)
class TokenPlace:
    """A place in a network at which patches can be taken out of the sequence."""

    module: nn.Module
    layer: nn.Module
    name: str
    """The user's own name of the layer."""
    at: Literal["input", "output"]
    """Whether tokens are taken out of what the layer is handed, or of what it returns."""
    grid: Tokens

    @property
    def tokens(self) -> int:
        """How many patches there are."""
        return self.grid.rows * self.grid.columns

    @contextmanager
    def keeping(self, kept: Int[Tensor, "rows kept"]) -> Iterator[None]:
        """Run the network with these patches of each row only, in this order; tokens before the grid stay.

        Nothing is left on the model, also after an exception.
        """

        def chosen(tokens: Tensor) -> Tensor:
            before, grid = tokens[:, : self.grid.before], tokens[:, self.grid.before :]
            index = kept.to(grid.device).unsqueeze(2).expand(-1, -1, grid.shape[2])
            return torch.cat([before, grid.gather(1, index)], 1)

        def on_input(layer: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
            return (chosen(arguments[0]), *arguments[1:])

        def on_output(layer: nn.Module, arguments: tuple[Any, ...], output: Tensor) -> Tensor:
            return chosen(output)

        if self.at == "input":
            handle = self.layer.register_forward_pre_hook(on_input)
        else:
            handle = self.layer.register_forward_hook(on_output)
        try:
            yield
        finally:
            handle.remove()


def find_token_place(bound: ModuleScore, inputs: Float[Tensor, "batch channel height width"]) -> TokenPlace:
    """The first place at which patches can be taken out of the sequence.

    Args:
        bound: A score settled at the inputs.
        inputs: Of which the first is run, seven times at most for each place tried.

    Raises:
        LayerError: there is none; the message says what was tried, and why it failed.
    """
    first = inputs[:1]
    places = _places(bound.module, first)
    if not places:
        raise _refusal(
            "no layer is handed, or returns, tokens (batch, tokens, channels) on the grid of the image's patches before the first attention"
        )
    refused: dict[str, list[str]] = {}
    for place in places:
        reason = _reason(place, bound, first)
        if reason is None:
            return place
        refused.setdefault(reason, []).append(f"the {place.at} of '{place.name}'")
    listed = [f"at {_first_of(tried)} {reason}" for reason, tried in refused.items()]
    raise _refusal("; ".join(listed))


def _refusal(reason: str) -> LayerError:
    return LayerError(
        f"patches cannot be taken out: {reason}; remove pixels instead, such as with cp.metrics.deletion_curve."
    )


def _first_of(places: list[str]) -> str:
    return ", ".join(places[:2]) + (f" and {len(places) - 2} more places" if len(places) > 2 else "")


class _Attention(TorchFunctionMode):
    """Notices the first attention of a run."""

    def __init__(self) -> None:
        super().__init__()
        self.met = False

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Called by torch in the place of `func`."""
        result = func(*args, **(kwargs or {}))
        name, _ = name_of(func)
        self.met = self.met or name in FUSED or (name == "softmax" and result.ndim > 2)
        return result


def _places(module: nn.Module, first: Tensor) -> list[TokenPlace]:
    """Where tokens of the grid pass before the first attention, in the order of the run."""
    size = (first.shape[2], first.shape[3])
    stated = statements(module, size)
    attention, network = _Attention(), unwrapped(module)[1]
    runs: dict[nn.Module, int] = {}
    found: list[TokenPlace] = []

    def consider(layer: nn.Module, at: Literal["input", "output"], tokens: Any) -> None:
        if attention.met or not isinstance(tokens, Tensor) or tokens.ndim != 3 or len(tokens) != 1:
            return
        if tokens.is_floating_point() and (grid := tokens_layout(stated, tokens.shape[1], size)):
            found.append(TokenPlace(module, layer, own_name(module, layer), at, grid))

    def before(layer: nn.Module, arguments: tuple[Any, ...]) -> None:
        runs[layer] = runs.get(layer, 0) + 1
        consider(layer, "input", arguments[0] if arguments else None)

    def after(layer: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
        consider(layer, "output", output)

    parts = [part for part in network.modules() if part is not network]
    handles = [part.register_forward_pre_hook(before) for part in parts]
    handles += [part.register_forward_hook(after) for part in parts]
    try:
        with torch.no_grad(), attention:
            module(first)
    finally:
        for handle in handles:
            handle.remove()
    if not attention.met:
        raise _refusal("the model has no attention, so that nothing in it takes any number of tokens")
    # Of a layer that runs again later, both runs would lose their tokens.
    return [place for place in found if runs[place.layer] == 1]


def _reason(place: TokenPlace, bound: ModuleScore, first: Tensor) -> str | None:
    """Why patches cannot be taken out there; None where they can."""
    whole = torch.arange(place.tokens)
    # Drawn from a seed of its own: the same for every model with so many patches.
    drawn = torch.randperm(place.tokens, generator=torch.Generator().manual_seed(0))
    plain = _answer(place, bound, first, whole[None])
    allowed = _ROUNDING.get(first.dtype, _ROUNDING_16_BITS) * plain.abs().max().clamp(min=1e-3)
    for exchanged in (whole.flip(0), drawn):
        try:
            answer = _answer(place, bound, first, exchanged[None])
        except _FAILURES as error:
            return f"the model does not take them in another order ({_first_line(error)})"
        if not bool(((answer - plain).abs() <= allowed).all()):
            return "the answer changes when they are exchanged: what follows knows their places"
    try:
        fewer = _answer(place, bound, first, whole[None, : max(1, place.tokens // 2)])
    except _FAILURES as error:
        return f"the model does not take fewer of them ({_first_line(error)})"
    return None if bool(fewer.isfinite().all()) else "fewer of them make the score infinite, or no number"


def can_lose_all(place: TokenPlace, bound: ModuleScore, first: Float[Tensor, "1 *input"]) -> bool:
    """Whether the model has a score without any patch, as one with a class token does; a mean over no patch is no number."""
    if place.grid.before == 0:
        return False
    try:
        answer = _answer(place, bound, first, torch.zeros(1, 0, dtype=torch.int64))
    except _FAILURES:
        return False
    return bool(answer.isfinite().all())


def _answer(place: TokenPlace, bound: ModuleScore, first: Tensor, kept: Int[Tensor, "1 kept"]) -> Tensor:
    """The model's numbers for all classes where it returns such, which say more than one of them; else the score."""
    with torch.no_grad(), place.keeping(kept):
        output = bound.module(first)
    if isinstance(output, Tensor) and output.ndim == 2:
        return output
    return bound.read(output, torch.zeros(1, dtype=torch.int64, device=first.device))


def on_eager(bound: ModuleScore) -> ModuleScore:
    """The score on the model without `torch.compile` or data parallelism around it, where layers can be met one by one."""
    return bound.on(eager(bound.module))


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
