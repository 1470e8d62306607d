"""A spec as the command line changes it."""

from counterpoint.bench.spec import BenchSpec, checked


def changed(spec: BenchSpec, **settings: object) -> BenchSpec:
    """The same with other settings of [run]; those that are None stay.

    Raises:
        InputError: a value that [run] does not take.
    """
    given = {name: value for name, value in settings.items() if value is not None}
    if not given:
        return spec
    plain = spec.plain()
    return checked({**plain, "run": {**plain["run"], **given}}, where="command line")
