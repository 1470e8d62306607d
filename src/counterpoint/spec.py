"""Describe an object in plain data, and build it again.

One round trip serves the command line (`blur:sigma=20`), cards, saved attributions, spec files and task keys.

Text form: `name` or `name:parameter=value,parameter=value`. A value is a number, true, false, none, a word, a tuple `(0.1,0.2,0.3)`, or an
object in call form, `gauss_legendre(32)`, `superpixels(50)`.
"""

import dataclasses
import hashlib
import importlib
import json
import types
import typing
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor

from counterpoint.errors import CounterpointError, InputError, UnknownNameError
from counterpoint.protocols import Baseline, Method

_SEVERAL = (tuple, Collection)

FOLLOWS = "follows"
"""Metadata of a field whose value follows from others, such as the hash of a file that is named: not worth showing."""

Kind = Literal["baseline", "method", "rule", "regions"]

# Found when first asked for, by name: this module stands above the ones that it names.
_REGISTRIES: dict[Kind, str] = {
    "baseline": "counterpoint.baselines:BASELINES",
    "method": "counterpoint.methods:METHODS",
    "rule": "counterpoint.quadrature:RULES",
    "regions": "counterpoint.methods:REGIONS",
}


@dataclass(frozen=True)
class Description:
    """An object as plain data."""

    name: str
    """Its name in the registry; for classes outside the registries, module and class."""
    parameters: Mapping[str, Any]
    """Every parameter, JSON-ready; tensors as their content hash, shape and type."""
    version: int
    """Raised when the numbers that the class produces change."""

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that change with the name, any parameter or the version."""
        plain = json.dumps([self.name, self.parameters, self.version], sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(plain.encode()).hexdigest()[:16]

    @property
    def text(self) -> str:
        """The form that the command line takes."""
        return self.name + (":" if self.parameters else "") + _arguments_text(self.parameters)

    def as_dict(self) -> dict[str, Any]:
        """name, parameters, version and fingerprint, for JSON."""
        return {
            "name": self.name,
            "parameters": dict(self.parameters),
            "version": self.version,
            "fingerprint": self.fingerprint,
        }


def registry(kind: Kind) -> dict[str, type]:
    """The registry of a kind: name -> class."""
    module, attribute = _REGISTRIES[kind].split(":")
    return cast(dict[str, type], getattr(importlib.import_module(module), attribute))


def describe(thing: object) -> Description:
    """Describe a baseline, a method, or an object that is a parameter of one: a rule, regions.

    Raises:
        InputError: not a dataclass, or a parameter that has no plain form.
    """
    if isinstance(thing, Description):
        return thing
    if not dataclasses.is_dataclass(thing) or isinstance(thing, type):
        raise InputError(f"only dataclass objects can be described, got {thing!r}.")
    parameters = {
        f.name: _plain(getattr(thing, f.name)) for f in dataclasses.fields(thing) if f.init and f.repr
    }
    return Description(
        name=_name_of(type(thing)), parameters=parameters, version=getattr(type(thing), "version", 1)
    )


def unusual(kind: Kind, description: Description) -> Description:
    """The same with only those parameters that differ from their defaults, and without those that follow from others; within objects
    that are parameters too."""
    make = registry(kind).get(description.name)
    known = {} if make is None else {each.name: each for each in dataclasses.fields(make)}
    try:
        usual = {} if make is None else describe(make()).parameters
    except (CounterpointError, TypeError):  # a parameter must be given
        usual = {
            name: _plain(each.default)
            for name, each in known.items()
            if each.default is not dataclasses.MISSING
        }
    kept = {
        name: _unusual_value(value)
        for name, value in description.parameters.items()
        if value != usual.get(name) and not (name in known and known[name].metadata.get(FOLLOWS))
    }
    return Description(description.name, kept, description.version)


def _unusual_value(value: Any) -> Any:
    kind = next((kind for kind in _REGISTRIES if is_object(value) and value["name"] in registry(kind)), None)
    return value if kind is None else {**value, "parameters": unusual(kind, Description(**value)).parameters}


def is_object(value: Any) -> bool:
    """Whether the value of a parameter stands for an object, with `name`, `parameters` and `version` of its own."""
    return isinstance(value, Mapping) and "name" in value


def build(kind: Kind, text: str | Description | Mapping[str, Any]) -> Any:
    """Make the object that a text or a description stands for.

    Args:
        kind: Which registry to look in: "baseline", "method", "rule" or "regions".
        text: `blur:sigma=20`, a Description, or its `as_dict()`.

    Raises:
        UnknownNameError: no such name, or no such parameter.
        InputError: a value of the wrong type or out of range, or a parameter that must be given and is not.
    """
    if isinstance(text, Mapping):
        text = Description(name=text["name"], parameters=text["parameters"], version=text.get("version", 1))
    if isinstance(text, Description):
        return _make(kind, text.name, [], dict(text.parameters))
    name, _, rest = text.partition(":")
    positional, parameters = _parse_arguments(rest, whole=text)
    return _make(kind, name.strip(), positional, parameters)


def _make(kind: Kind, name: str, positional: list[Any], parameters: dict[str, Any]) -> Any:
    known = registry(kind)
    if name not in known:
        raise UnknownNameError.among(kind, name, known, shown=40)
    make = known[name]
    hints = typing.get_type_hints(make.__init__)
    fields = [f for f in dataclasses.fields(make) if f.init]
    names = [f.name for f in fields]
    if len(positional) > len(names):
        raise InputError(f"{kind} '{name}' takes {len(names)} parameters, got {len(positional)}.")
    parameters = {**dict(zip(names, positional, strict=False)), **parameters}
    for parameter in parameters:
        if parameter not in names:
            raise UnknownNameError.among(f"parameter of {kind} '{name}'", parameter, names)
    missing = [f.name for f in fields if f.default is f.default_factory is dataclasses.MISSING]
    if missing := [parameter for parameter in missing if parameter not in parameters]:
        raise InputError(f"{kind} '{name}' needs {', '.join(missing)}: {name}({missing[0]}=...).")
    values = {p: _converted(v, hints[p], f"{p} of {kind} '{name}'") for p, v in parameters.items()}
    try:
        return make(**values)
    except CounterpointError as error:
        raise type(error)(f"{kind} '{name}': {error}") from error


def _name_of(cls: type) -> str:
    for kind in _REGISTRIES:
        for name, make in registry(kind).items():
            if make is cls:
                return name
    return f"{cls.__module__}.{cls.__qualname__}"


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, Tensor):
        return {"sha256": content_hash(value), "shape": list(value.shape), "dtype": str(value.dtype)}
    if dataclasses.is_dataclass(value):
        inner = describe(value)
        return {"name": inner.name, "parameters": inner.parameters, "version": inner.version}
    raise InputError(
        f"{value!r} has no plain form; parameters are numbers, words, tuples, tensors or dataclasses."
    )


def content_hash(tensor: Tensor) -> str:
    """SHA-256 of a tensor's shape, type and bytes, as 64 hexadecimal digits."""
    digest = hashlib.sha256(f"{tuple(tensor.shape)} {tensor.dtype}".encode())
    digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _arguments_text(parameters: Mapping[str, Any]) -> str:
    return ",".join(f"{name}={_value_text(value)}" for name, value in parameters.items())


def _value_text(value: Any) -> str:
    if is_object(value):
        arguments = _arguments_text(value["parameters"])
        return f"{value['name']}({arguments})" if arguments else str(value["name"])
    if isinstance(value, Mapping):
        return f"sha256-{value['sha256'][:8]}"
    if isinstance(value, list | tuple):
        return "(" + ",".join(_value_text(item) for item in value) + ")"
    return str(value).lower() if value is None or isinstance(value, bool) else f"{value}"


def _split(text: str) -> list[str]:
    """`text` cut at its commas, those within brackets left alone."""
    parts, depth = [""], 0
    for character in text:
        depth += (character == "(") - (character == ")")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    if depth:
        raise InputError(f"brackets do not match in '{text}'.")
    return [part.strip() for part in parts if part.strip()]


def _parse_arguments(text: str, *, whole: str) -> tuple[list[Any], dict[str, Any]]:
    positional: list[Any] = []
    named: dict[str, Any] = {}
    for part in _split(text):
        head, equals, tail = part.partition("=")
        if equals and "(" not in head:
            named[head.strip()] = _parse_value(tail.strip())
        elif named:
            raise InputError(f"expected parameter=value, got '{part}' in '{whole}'.")
        else:
            positional.append(_parse_value(part))
    return positional, named


def _parse_value(text: str) -> Any:
    lower = text.lower()
    if lower in ("true", "false", "none"):
        return {"true": True, "false": False, "none": None}[lower]
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    if text.endswith(")") and "(" in text:
        name, _, rest = text.partition("(")
        positional, named = _parse_arguments(rest[:-1], whole=text)
        return (
            {"name": name.strip(), "positional": positional, "parameters": named}
            if name
            else tuple(positional)
        )
    return text


def _converted(value: Any, hint: Any, argument: str) -> Any:
    """`value` as the annotation asks for it, or one clear error."""
    options = (
        typing.get_args(hint)
        if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union
        else (hint,)
    )
    for option in options:
        origin, inner = typing.get_origin(option), typing.get_args(option)
        if option is type(None) or option is None:
            if value is None:
                return None
        elif origin is Literal:
            if value in inner:
                return value
            if value is None and "none" in inner:  # the word, which the text form also writes for None
                return "none"
        elif origin in _SEVERAL:
            if isinstance(value, tuple | list):
                each = [inner[0]] * len(value) if _of_any_number(option) else list(inner)
                if len(each) == len(value):
                    return tuple(_converted(v, h, argument) for v, h in zip(value, each, strict=True))
        elif option is float:
            if isinstance(value, int | float) and not isinstance(value, bool):
                return float(value)
        elif option in (int, bool, str):
            if type(value) is option:
                return value
        elif kind := _kind_of(option):
            if is_object(value):  # in call form
                return _make(kind, value["name"], value.get("positional", []), dict(value["parameters"]))
            if isinstance(value, str) and value in registry(kind):
                return _make(kind, value, [], {})
    raise InputError(f"{argument} must be {_hint_text(options)}, got {value!r}.")


def _of_any_number(option: Any) -> bool:
    """Whether a collection may have any length."""
    return typing.get_origin(option) is Collection or typing.get_args(option)[-1] is Ellipsis


def _kind_of(option: Any) -> Kind | None:
    """The registry that holds a class, or all classes of a kind."""
    if option is Method or option is Baseline:
        return "method" if option is Method else "baseline"
    return next((kind for kind in _REGISTRIES if option in registry(kind).values()), None)


def _hint_text(options: tuple[Any, ...]) -> str:
    words = {
        float: "a number",
        int: "a whole number",
        bool: "true or false",
        str: "a word",
        type(None): "none",
    }
    texts = []
    for option in options:
        if typing.get_origin(option) is Literal:
            texts += [repr(choice) for choice in typing.get_args(option)]
        elif typing.get_origin(option) in _SEVERAL:
            inner = typing.get_args(option)
            count = "any number of" if _of_any_number(option) else str(len(inner))
            texts.append(f"{count} {'words' if inner[0] is str else 'numbers'} in brackets")
        else:
            texts.append(words.get(option, f"a {getattr(option, '__name__', option)}"))
    return " or ".join(texts)
