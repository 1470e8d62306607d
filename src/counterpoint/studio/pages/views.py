"""What a page shows, as its address says it: every view can be linked."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol
from urllib.parse import urlencode

from counterpoint.studio.questions import Cell, question_of
from counterpoint.studio.settings import Settings
from counterpoint.studio.textform import parts_of

FIRST_PHOTO = "sample-chelsea"
FIRST_BASELINE = "blur"
FIRST_METHOD = "integrated_gradients"


class Given(Protocol):
    """The fields of an address or a form; a name may come several times."""

    def get(self, key: str, default: str) -> str: ...

    def getlist(self, key: str) -> Sequence[str]: ...

    def keys(self) -> Iterable[str]: ...


@dataclass(frozen=True, kw_only=True)
class View:
    """One question about one photograph; of pages that compare, several baselines, methods and layers."""

    photo: str
    model: str
    target: str = "top1"
    score: str = "logit"
    baselines: tuple[str, ...] = (FIRST_BASELINE,)
    methods: tuple[str, ...] = (FIRST_METHOD,)
    layers: tuple[str, ...] = ("",)
    judges: tuple[str, ...] = ()
    """Evaluation baselines, of curves."""
    search: str = ""
    """A class as it was typed; `Pages.view` finds out which one is meant."""

    @property
    def baseline(self) -> str:
        """The first of them."""
        return self.baselines[0]

    @property
    def method(self) -> str:
        """The first of them."""
        return self.methods[0]

    @property
    def layer(self) -> str:
        """The first of them."""
        return self.layers[0]

    @property
    def baseline_name(self) -> str:
        """Without parameters."""
        return self.baseline.partition(":")[0]

    @property
    def method_name(self) -> str:
        """Without parameters."""
        return self.method.partition(":")[0]

    @property
    def method_parameters(self) -> str:
        """As the command line takes them; empty for the usual ones."""
        return self.method.partition(":")[2]

    @property
    def query(self) -> str:
        """The address' query."""
        pairs = [("photo", self.photo), ("model", self.model), ("target", self.target)]
        pairs += [("score", self.score)] if self.score != "logit" else []
        pairs += [("baseline", each) for each in self.baselines]
        pairs += [("method", each) for each in self.methods]
        pairs += [("layer", each) for each in self.layers if each or len(self.layers) > 1]
        pairs += [("judge", each) for each in self.judges]
        return urlencode(pairs)

    def one(self) -> "View":
        """Its first question alone."""
        return replace(
            self, baselines=self.baselines[:1], methods=self.methods[:1], layers=self.layers[:1], judges=()
        )

    def cell(self, baseline: str = "", method: str = "", layer: str | None = None) -> Cell:
        """The question of one explanation.

        Raises:
            Refused: 422, a field that makes no sense.
        """
        found = question_of(
            {
                "kind": "cell",
                "photo": self.photo,
                "model": self.model,
                "target": int(self.target) if self.target.isdecimal() else self.target,
                "score": self.score,
                "baseline": baseline or self.baseline,
                "method": method or self.method,
                "layer": self.layer if layer is None else layer,
            }
        )
        if not isinstance(found, Cell):
            raise TypeError("a cell was asked for.")
        return found


def view_of(given: Given, settings: Settings, photos: Sequence[str]) -> View:
    """The view that an address or a form asks for; what it leaves out is the usual."""
    first = FIRST_PHOTO if FIRST_PHOTO in photos or not photos else photos[0]
    return View(
        photo=given.get("photo", "") or first,
        model=given.get("model", "") or settings.models[0],
        target=given.get("target", "") or "top1",
        score=given.get("score", "") or "logit",
        baselines=_texts(given, "baseline", FIRST_BASELINE),
        methods=_texts(given, "method", FIRST_METHOD),
        layers=tuple(dict.fromkeys(given.getlist("layer"))) or ("",),
        judges=tuple(dict.fromkeys(text for text in given.getlist("judge") if text)),
        search=given.get("search", "").strip()[:200],
    )


def _texts(given: Given, kind: str, usual: str) -> tuple[str, ...]:
    """The text forms of baselines or methods. Of a single one its parameters may come as fields of their own, "baseline.sigma"."""
    own = [text.strip() for each in given.getlist(f"{kind}.own") for text in each.split(";")]
    texts = [text for text in dict.fromkeys([*given.getlist(kind), *own]) if text]
    fields = {
        name.partition(".")[2]: given.get(name, "").strip()
        for name in given.keys()
        if name.startswith(f"{kind}.")
    }
    fields.pop("own", None)
    if len(texts) == 1 and ":" not in texts[0]:
        texts = [with_parameters(texts[0], fields)]
    return tuple(texts) or (usual,)


def with_parameters(name: str, fields: Mapping[str, str]) -> str:
    """The text form of a name with parameters; those left empty are the usual ones."""
    given = ",".join(f"{key}={value}" for key, value in fields.items() if value)
    return f"{name}:{given}" if given else name


def parameters_of(text: str) -> dict[str, str]:
    """The parameters of a text form: "blur:sigma=20" has sigma 20. Brackets stay whole."""
    pairs = (part.partition("=") for part in parts_of(text.partition(":")[2]) if "=" in part)
    return {name.strip(): value.strip() for name, _, value in pairs}
