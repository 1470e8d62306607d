"""The types that every later part implements: Score, Baseline, Method, Outcome.

Shapes: `inputs` is (batch, *input), usually (batch, channel, height, width) with pixels in [0, 1]. `points` is (rows, *features): anything
to be scored, where `image` (rows,) says which of the inputs each row belongs to.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol, runtime_checkable

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from counterpoint.errors import InputError

if TYPE_CHECKING:
    from counterpoint.comparison import Comparison

Claim = Literal["shares", "rate", "importance"]
"""What the values of a method say they are.

shares      parts of f(x) - f(x'), in units of the score: their sum can be checked, and always is.
rate        change of the score per unit of input: a sum of them means nothing.
importance  an order, or an unscaled weight: larger matters more.
"""

Step = Literal["quadrature", "one_step", "operator", "display"]
"""Where an explanation loses accuracy, in the order in which the error budget switches it on.

quadrature  finitely many points on the path.
one_step    a single gradient for the whole way.
operator    another gradient than the score's: averaged over places, its negative part dropped, smoothed.
display     values dropped for the sake of the picture.
"""
STEPS: tuple[Step, ...] = ("quadrature", "one_step", "operator", "display")

Level = Literal["input", "layer", "any"]
"""Where a method works: on the input only, on a layer only, or on either."""


@runtime_checkable
class BoundScore(Protocol):
    """A score settled at its inputs: which class, which detection, which reference."""

    def __call__(
        self, points: Float[Tensor, "rows *input"], image: Int[Tensor, " rows"]
    ) -> Float[Tensor, " rows"]:
        """The score of each row, float32 at least."""
        ...


@runtime_checkable
class ModuleScore(BoundScore, Protocol):
    """A bound score that knows its network, so that layers can be asked for."""

    @property
    def module(self) -> nn.Module:
        """The network whose output is read."""
        ...

    def read(self, output: object, image: Int[Tensor, " rows"]) -> Float[Tensor, " rows"]:
        """The scores in an output of the module."""
        ...

    def on(self, module: nn.Module) -> "ModuleScore":
        """The same score, settled the same way, read from another module."""
        ...


@runtime_checkable
class Score(Protocol):
    """A question about a model, before it meets its inputs."""

    def bind(self, inputs: Float[Tensor, "batch *input"]) -> BoundScore:
        """Settle everything that depends on the original inputs."""
        ...


@runtime_checkable
class Baseline(Protocol):
    """What an input is compared with; a frozen dataclass in `counterpoint.baselines`.

    A subclass gives `__call__`, which must treat each input alone: an image's baseline is the same alone or in a batch.
    """

    version: ClassVar[int] = 1
    fill_only: ClassVar[bool] = False
    """True for kinds that replace removed pixels but have no image of their own: `__call__` is never asked; path methods refuse them."""

    @property
    def draws(self) -> int:
        """How many baselines there are per input; above 1, `__call__` returns (draws, batch, *input)."""
        return 1

    @property
    def without_image(self) -> str:
        """Why `__call__` has no image to give, in words; empty where it has one."""
        return "it only fills removed pixels" if self.fill_only else ""

    def __call__(self, inputs: Float[Tensor, "batch *input"]) -> Float[Tensor, "..."]:
        """The baseline of each input, of the shape, type and device of `inputs`."""
        ...

    def prepare(self, bound: BoundScore, inputs: Float[Tensor, "batch *input"]) -> "Baseline":
        """The baseline to use with this model and these inputs; kinds that need neither return themselves."""
        return self

    def fill(
        self, inputs: Float[Tensor, "batch channel *space"], removed: Bool[Tensor, "batch *space"]
    ) -> Float[Tensor, "batch channel *space"]:
        """The inputs with their removed pixels (True) replaced, by default with the baseline's.

        Raises:
            InputError: several draws.
        """
        if self.draws > 1:
            raise InputError(f"removed pixels become one baseline, but {self!r} has {self.draws} draws.")
        return self(inputs).where(removed.unsqueeze(1), inputs)


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """What a method hands back; the comparison turns it into an Attribution.

    A method never computes its own target or error: that is done in one place, the same for all.
    """

    values: Float[Tensor, "batch *features"]
    """Signed, for shares in units of the score; float32 at least, cast to the type of the inputs later."""
    path_error: Float[Tensor, " batch"] | None = None
    """sum over pieces of |sum of the piece's values - its own change of score| / |f(x) - f(x')|."""
    pieces: Int[Tensor, " batch"] | None = None
    """How many pieces `path_error` was summed over."""
    value_error: Float[Tensor, " batch"] | None = None
    """Estimated relative L1 distance of the values from the converged integral."""
    path_variation: Float[Tensor, " batch"] | None = None
    """sum over pieces of |change of score|, V in the papers' words."""
    converged: Bool[Tensor, " batch"] | None = None
    """Whether the method reached the precision that it was asked for; None where it was asked for none."""
    standard_error: Float[Tensor, "batch *features"] | None = None
    """Of methods that sample."""
    reference: str | None = None
    """What the method itself compares with, where that is not the comparison's baseline."""
    own_target: Float[Tensor, " batch"] | None = None
    """f(x) minus the score at `reference`."""
    stages: Mapping[Step, Float[Tensor, " batch"]] = field(default_factory=dict)
    """The sum of the values after each step that costs accuracy, in the order of STEPS; a step that is not taken is left out."""
    extras: Mapping[str, Tensor] = field(default_factory=dict)
    """Further results of this method, by name."""


@runtime_checkable
class Method(Protocol):
    """A way to explain; a frozen dataclass of hyper-parameters in `counterpoint.methods`.

    It reaches the model only through the comparison it is called on. Three further class variables are read where they are there:
    `many_draws`, True for methods that take a baseline with several draws; `fills`, True for methods that only remove pixels, so that
    a baseline which only fills will do; and `error_is_forced`, True for methods that use score values to set the sum of their own,
    whose error of 0 proves nothing.
    """

    level: ClassVar[Level]
    version: ClassVar[int]

    @property
    def claim(self) -> Claim:
        """What the values are; for most methods a class variable."""
        ...

    def __call__(self, comparison: "Comparison") -> Outcome:
        """Explain every image of the comparison."""
        ...
