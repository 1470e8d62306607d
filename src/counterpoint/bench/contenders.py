"""Who takes part in a benchmark: a method, what it compares with, and where its map was made."""

from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Contender:
    """A method with its attribution baseline and its layer; seeds are repeats of it."""

    method: str
    against: str
    """The attribution baseline."""
    layer: str = "input"

    @property
    def name(self) -> str:
        """For people."""
        where = "" if self.layer == "input" else f" at {self.layer}"
        return f"{self.method} against {self.against}{where}"
