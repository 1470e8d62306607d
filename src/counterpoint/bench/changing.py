"""A spec as the command line changes it."""

from collections.abc import Sequence

from counterpoint.bench.spec import BenchSpec, checked

_CHOOSING = ("sample", "seed", "limit")


def changed(spec: BenchSpec, *, photographs: Sequence[str] = (), **settings: object) -> BenchSpec:
    """The same with other settings of [run], those that are None staying; and with other images, chosen from as the spec chooses.

    Raises:
        InputError: a value that [run] does not take.
    """
    given = {name: value for name, value in settings.items() if value is not None}
    plain = spec.plain()
    if photographs:
        chosen = {name: plain["images"][name] for name in _CHOOSING if name in plain["images"]}
        plain["images"] = {"list": list(photographs), **chosen}
    return checked({**plain, "run": {**plain["run"], **given}}, where="command line")
