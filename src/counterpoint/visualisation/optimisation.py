"""Change an image step by step until the views of it reach as much, or as little, of an objective as they can."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from counterpoint import progress
from counterpoint.checks import check_range, shape_text
from counterpoint.errors import InputError, ModelError, NotFiniteError, ShapeError
from counterpoint.visualisation.parametrisations import Parameters, Parametrisation, check_parameters
from counterpoint.visualisation.resampling import resampled, whole_box
from counterpoint.visualisation.views import Crops, Views, check_count

Objective = Callable[[Tensor], Tensor]
"""From views (rows, 3, height, width) to one number, or one for each row, whose mean counts."""

_MOMENTS = ("step", "mu_product", "exp_avg", "exp_avg_sq")
# So long may an image leave the objective without any gradient before the work ends.
_PATIENCE = 16


@dataclass(frozen=True, kw_only=True, eq=False)
class Moment:
    """Where an optimisation stands; made for each `on_step`, and valid only during it."""

    step: int
    """Steps taken so far."""
    steps: int
    """Steps in all."""
    value: float
    """The objective of the views before the last step."""
    _run: "_Run" = field(repr=False)

    def image(self) -> Float[Tensor, "1 3 size size"]:
        """The image now."""
        return self._run.image()

    def state(self) -> dict[str, Tensor]:
        """All that `optimise(..., state=...)` needs to go on from here: copies, on the CPU."""
        return self._run.state()


@dataclass(frozen=True, kw_only=True, eq=False)
class Visualisation:
    """An image that was optimised, and how it came about."""

    image: Float[Tensor, "1 3 size size"]
    """Pixels in [0, 1]."""
    values: Float[Tensor, " steps"]
    """The objective of the views before each step, float64."""
    minimise: bool
    """Whether it was to become small."""
    intermediate: Float[Tensor, "kept 3 height width"]
    """The image on its way, at the network's size."""
    intermediate_steps: tuple[int, ...]
    """After how many steps each of them was kept."""
    parametrisation: Parametrisation
    parameters: dict[str, Tensor]
    state: dict[str, Tensor] = field(repr=False)
    """What `optimise(..., state=...)` goes on from; tensors only, for safetensors."""
    seed: int

    @property
    def steps(self) -> int:
        """How many there were."""
        return len(self.values)

    @property
    def losses(self) -> Float[Tensor, " steps"]:
        """What was made small: the values, negated where they were to become large."""
        return self.values if self.minimise else -self.values

    def at(self, size: tuple[int, int]) -> Float[Tensor, "1 3 height width"]:
        """The image at another size, antialiased; where the shape is another, its central part."""
        return resampled(self.image, whole_box(self.image, size), size)


def optimise(
    objective: Objective,
    parametrisation: Parametrisation,
    *,
    size: tuple[int, int],
    views: Views | None = None,
    steps: int = 256,
    learning_rate: float = 1.0,
    seed: int = 0,
    start: Parameters | None = None,
    state: Mapping[str, Tensor] | None = None,
    keep: int = 0,
    on_step: Callable[[Moment], None] | None = None,
    minimise: bool = False,
    device: torch.device | str = "cpu",
) -> Visualisation:
    """Optimise an image with Nesterov-accelerated Adam, on random views of it.

    Nothing of the network is changed: gradients are taken of the image's parameters alone. Progress is reported at each step, where a
    listener may cancel.

    Args:
        objective: Any function of views (rows, 3, height, width) to one number, or to one for each row, such as those in `objectives`.
        parametrisation: How the image is written: `Pixels`, `Fourier` or `MaCo`.
        size: Height and width of the network's input.
        views: What it is shown at each step; by default `Crops()`.
        steps: In all, those in `state` included.
        learning_rate: Of the optimiser.
        seed: Of all draws; where `state` is given its own seed counts.
        start: Parameters to start from, such as `parametrisation.of(image)`; in float64 the work is done in float64.
        state: Where an earlier run ended or was stopped: the rest of it gives the same bits as one run in a piece, on the same machine.
        keep: How many images to keep from the way, evenly spaced, the last one included.
        on_step: Called after each step, for one's own records: of state, of images.
        minimise: Make the objective small instead of large.
        device: Where to compute; that of the network.

    Raises:
        InputError: steps below 1, a learning rate that is not positive, both `start` and `state`, either of them for another
            parametrisation, more steps in `state` than in all, or an objective that does not depend on the views.
        ShapeError: an objective of another shape.
        NotFiniteError: the objective or its gradient is NaN or infinite.
        ModelError: the first steps bring no gradient at all.
        Cancelled: the progress listener stopped the work.
    """
    check_count("steps", steps)
    check_count("keep", keep, 0)
    check_range("learning_rate", learning_rate, 0, open_low=True)
    if len(size) != 2 or not all(type(side) is int and side > 0 for side in size):
        raise InputError(f"size must be (height, width) in whole pixels above 0, got {size!r}.")
    if start is not None and state is not None:
        raise InputError("start and state both say where to begin; give one of them.")
    kept_after = {math.ceil(k * steps / keep) for k in range(1, keep + 1)}
    # Whoever calls may have switched gradients off for the network's sake.
    with torch.inference_mode(False), torch.enable_grad():
        run = _Run(parametrisation, size, learning_rate, seed, minimise, torch.device(device))
        run.begin(start) if state is None else run.resume(state, steps)
        run.kept = {step: image for step, image in run.kept.items() if step in kept_after}
        shown = Crops() if views is None else views
        progress.advance(len(run.values), steps, "visualising")
        while len(run.values) < steps:
            value = run.step(objective, shown)
            done = len(run.values)
            if done in kept_after:
                image = run.image()
                run.kept[done] = resampled(image, whole_box(image, size), size)[0]
            if on_step is not None:
                on_step(Moment(step=done, steps=steps, value=value, _run=run))
            progress.advance(done, steps, "visualising")
        return run.result()


class _Run:
    """An optimisation on its way."""

    def __init__(
        self,
        parametrisation: Parametrisation,
        size: tuple[int, int],
        learning_rate: float,
        seed: int,
        minimise: bool,
        device: torch.device,
    ) -> None:
        self.parametrisation, self.size, self.device = parametrisation, (size[0], size[1]), device
        self.learning_rate, self.seed, self.minimise = learning_rate, seed, minimise
        self.generator = torch.Generator().manual_seed(seed)
        self.values: list[float] = []
        self.kept: dict[int, Tensor] = {}

    def begin(self, start: Parameters | None) -> None:
        """Take the parameters to start from, or draw them."""
        if start is None:
            start = self.parametrisation.start(self.generator)
        else:
            check_parameters(self.parametrisation, start)
        self._take(start)

    def resume(self, state: Mapping[str, Tensor], steps: int) -> None:
        """Take parameters, moments, random state and records from an earlier run."""
        names = self.parametrisation.start(torch.Generator())
        needed = {f"parameters.{name}" for name in names} | {"generator", "values", "seed"}
        missing = sorted(needed - set(state))
        if missing:
            raise InputError(
                f"state lacks {', '.join(missing)}; it belongs to another parametrisation, or is none."
            )
        parameters = {name: state[f"parameters.{name}"] for name in names}
        check_parameters(self.parametrisation, parameters)
        self.values = state["values"].tolist()
        if len(self.values) > steps:
            raise InputError(f"steps must be at least the {len(self.values)} of the state, got {steps}.")
        self._take(parameters)
        self.seed = int(state["seed"])
        self.generator.set_state(state["generator"].cpu())
        for name, leaf in self.leaves.items():
            found = {key: state.get(f"optimiser.{name}.{key}") for key in _MOMENTS}
            if self.values and any(moment is None for moment in found.values()):
                raise InputError(f"state lacks the optimiser's moments of '{name}'.")
            if self.values:
                self.optimiser.state[leaf] = {
                    key: moment.clone() if moment.ndim == 0 else moment.clone().to(self.device)
                    for key, moment in found.items()
                    if moment is not None
                }
        if "kept" in state:
            self.kept = dict(zip(state["kept_steps"].tolist(), state["kept"].to(self.device), strict=True))

    def _take(self, parameters: Parameters) -> None:
        self.parameters = {
            name: tensor.detach().clone().to(self.device) for name, tensor in parameters.items()
        }
        fixed = self.parametrisation.fixed
        self.leaves = {
            name: tensor.requires_grad_() for name, tensor in self.parameters.items() if name not in fixed
        }
        self.optimiser = torch.optim.NAdam(list(self.leaves.values()), lr=self.learning_rate)

    def step(self, objective: Objective, views: Views) -> float:
        """One step; what the objective was before it."""
        done = len(self.values)
        image = self.parametrisation.image(self.parameters)
        value = self._value(objective(views(image, self.size, self.generator)), done)
        loss = value if self.minimise else -value
        gradients = torch.autograd.grad(loss, list(self.leaves.values()), allow_unused=True)
        if all(gradient is None for gradient in gradients):
            raise InputError("the objective must depend on the views it is given, but has no gradient there.")
        for leaf, gradient in zip(self.leaves.values(), gradients, strict=True):
            if gradient is not None and not bool(gradient.isfinite().all()):
                raise NotFiniteError(f"the gradient of the objective is NaN or infinite at step {done + 1}.")
            leaf.grad = torch.zeros_like(leaf) if gradient is None else gradient
        self.optimiser.step()
        self.optimiser.zero_grad()
        self.values.append(float(value.detach()))
        if done + 1 == _PATIENCE and not any(
            bool(self.optimiser.state[leaf]["exp_avg_sq"].any()) for leaf in self.leaves.values()
        ):
            raise ModelError(
                f"the objective had no gradient in any of the first {_PATIENCE} steps: what it reads is silent there. "
                "Try another seed, or a layer before the activation."
            )
        return self.values[-1]

    def _value(self, value: Tensor, done: int) -> Tensor:
        if not isinstance(value, Tensor) or not value.is_floating_point():
            raise InputError(f"the objective must return a tensor of numbers, got {type(value).__name__}.")
        if value.ndim > 1 or value.numel() == 0:
            raise ShapeError(
                f"the objective must return one number, or one for each view, got {shape_text(value)}."
            )
        if not bool(value.detach().isfinite().all()):
            raise NotFiniteError(f"the objective is NaN or infinite at step {done + 1}.")
        if not value.requires_grad:
            raise InputError("the objective must depend on the views it is given, but has no gradient there.")
        return value.mean()

    def image(self) -> Tensor:
        with torch.no_grad():
            return self.parametrisation.image(self.parameters)

    def state(self) -> dict[str, Tensor]:
        found = {f"parameters.{name}": _copy(tensor) for name, tensor in self.parameters.items()}
        for name, leaf in self.leaves.items():
            for key, moment in self.optimiser.state.get(leaf, {}).items():
                found[f"optimiser.{name}.{key}"] = _copy(moment)
        found["generator"] = self.generator.get_state()
        found["values"] = torch.tensor(self.values, dtype=torch.float64)
        found["seed"] = torch.tensor(self.seed)
        if self.kept:
            found["kept"] = torch.stack([_copy(image) for image in self.kept.values()])
            found["kept_steps"] = torch.tensor(list(self.kept))
        return found

    def result(self) -> Visualisation:
        image = self.image()
        empty = image.new_zeros(0, 3, *self.size)
        return Visualisation(
            image=image,
            values=torch.tensor(self.values, dtype=torch.float64),
            minimise=self.minimise,
            intermediate=torch.stack(list(self.kept.values())) if self.kept else empty,
            intermediate_steps=tuple(self.kept),
            parametrisation=self.parametrisation,
            parameters={name: tensor.detach().clone() for name, tensor in self.parameters.items()},
            state=self.state(),
            seed=self.seed,
        )


def _copy(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", copy=True).contiguous()
