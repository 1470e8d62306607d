"""A user's model as a score can run it: takes one tensor and leaves it as it is, returns one tensor, and shows its layers one by one."""

import inspect
import warnings
from typing import Any
from weakref import WeakValueDictionary

from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from counterpoint.errors import InputError, ModelError
from counterpoint.outputs import Output, check_output, picked

# Kept for as long as somebody uses them: what is found out about a model (its graph, its cuts) is known by the module.
_made: "WeakValueDictionary[tuple[int, object, bool], Adapted]" = WeakValueDictionary()


class Adapted(nn.Module):
    """A model with one part of its output picked, or kept from writing on its input. The model is held, not copied."""

    wraps = "model"
    """The child whose layer names are the user's own; see counterpoint.layers."""
    hands_on = True
    """That child is called with one tensor and nothing else."""

    def __init__(self, model: nn.Module, *, output: Output | None, copies: bool) -> None:
        super().__init__()
        self.model = model
        self.output = output
        self.copies = copies

    @property
    def training(self) -> bool:
        """The model's own mode, whoever changes it."""
        model = vars(self)["_modules"].get("model")
        return model is not None and bool(model.training)

    @training.setter
    def training(self, mode: bool) -> None:
        """Nothing of its own to set: train() reaches the model as a child."""

    @property
    def labels(self) -> Any:
        """The model's labels, if it has any."""
        return getattr(self.model, "labels", None)

    @property
    def check_pixels(self) -> Any:
        """The model's own check of its inputs, if it has one."""
        return getattr(self.model, "check_pixels", None)

    def forward(self, inputs: Tensor) -> Any:
        """What is picked of the model's output."""
        output = self.model(inputs.clone() if self.copies else inputs)
        return output if self.output is None else picked(output, self.output)


def adapted(model: nn.Module, *, output: Output | None = None, copies: bool = False) -> nn.Module:
    """The model, or one around it that picks a part of its output or hands it copies of its inputs; one and the same when asked again.

    Args:
        model: It is held, not copied.
        output: Which part of what it returns; takes the place of one that was picked before.
        copies: Whether it writes on its inputs, and so has to get copies.

    Raises:
        InputError: `output` is nothing that picks.
    """
    check_output(output)
    if isinstance(model, Adapted):
        output = model.output if output is None else output
        copies = copies or model.copies
        model = model.model
    if output is None and not copies:
        return model
    key = (id(model), output, copies)
    found = _made.get(key)
    if found is None:
        found = _made[key] = Adapted(model, output=output, copies=copies)
    return found


def uncompiled(model: nn.Module, *, stacklevel: int) -> nn.Module:
    """The model without `torch.compile` around it, with a warning: hooks and parts of a network do not go with compiled code.

    Raises:
        InputError: it was compiled in place, by its own method `compile`, which leaves nothing to go back to.
    """
    compiled = [name or type(part).__name__ for name, part in model.named_modules() if _in_place(part)]
    if compiled:
        raise InputError(
            f"'{compiled[0]}' was compiled in place, by its method compile(), so that its layers cannot be seen; use the model before "
            "that, or take it back: for part in model.modules(): part._compiled_call_impl = None."
        )
    if "_orig_mod" not in model._modules:
        return model
    warnings.warn(
        "the model is compiled by torch.compile; Counterpoint runs it uncompiled, since layers and gradients of single parts are "
        "needed. Give the model itself to hear no more of this.",
        UserWarning,
        stacklevel=stacklevel,
    )
    inner: nn.Module | None = model
    while inner is not None:
        model, inner = inner, inner._modules.get("_orig_mod")
    return model


def check_takes_one_tensor(model: nn.Module) -> None:
    """Raise ModelError where the model's forward cannot be called with a single tensor: inputs beside the images, or keywords only."""
    while getattr(type(model), "hands_on", False) or isinstance(
        model, DataParallel | DistributedDataParallel
    ):
        model = getattr(model, getattr(type(model), "wraps", "module"))
    try:
        signature = inspect.signature(model.forward)
    except (TypeError, ValueError):  # of some compiled kinds there is none
        return
    try:
        signature.bind(object())
    except TypeError as error:
        raise ModelError(
            f"the model must take one tensor, model(inputs), but {type(model).__name__}.forward is {_plain(signature)}: {error}. Give "
            "the rest by a module of your own around it, or score a function: cp.callable_score(lambda rows, image: "
            "model(rows, other[image])[:, 0])."
        ) from None


def _plain(signature: inspect.Signature) -> str:
    """The names of a forward's parameters, without their types."""
    bare = [p.replace(annotation=inspect.Parameter.empty) for p in signature.parameters.values()]
    return str(signature.replace(parameters=bare, return_annotation=inspect.Signature.empty))


def _in_place(part: nn.Module) -> bool:
    return getattr(part, "_compiled_call_impl", None) is not None
