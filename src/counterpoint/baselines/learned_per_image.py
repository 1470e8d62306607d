"""A learned baseline fitted to each image by a few more steps."""

from dataclasses import dataclass, field
from typing import Literal, cast, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from counterpoint import progress
from counterpoint.baselines.blurred import Blur
from counterpoint.baselines.imputed import join
from counterpoint.baselines.learned import Learned
from counterpoint.baselines.learning import smoothed_gradient
from counterpoint.baselines.learning.network import Network
from counterpoint.baselines.learning.pairs import draw_pairs, draw_spared
from counterpoint.baselines.learning.trade_off import Judge
from counterpoint.baselines.local import LocalMean
from counterpoint.baselines.prepared import Found, check_classes, knowing, pictures_of
from counterpoint.checks import check_range
from counterpoint.errors import InputError
from counterpoint.protocols import Baseline, BoundScore
from counterpoint.spec import FOLLOWS
from counterpoint.visualisation import Fourier, Whole, optimise

Images = Float[Tensor, "batch channel height width"]

Start = Literal["learned", "local_mean"]

_CELLS = 8
_NEEDED = ("bank", "log_mean", "removal_unit", "distance_unit", "temperature")


@dataclass(frozen=True)
class LearnedPerImage(Baseline):
    """A learned baseline that a few steps of its own loss bring closer to each image's needs.

        loss = E[O(u)] - E[R(u)] + selectivity E[|1 - p_c(v) / p_c(x)|] / unit

    u = (1 - S) x + S b at points of the image's own deletion paths, the whole image removed among them; v the same where only pixels go
    that matter least by the image's smoothed gradient. Bank and units are those of the file, `unit` that of the confidence lost. The
    model's top class c of the image is read, the image's own features are not: without selectivity nothing pulls the baseline towards the
    image. (With it the image itself would do where nothing of importance is; the score of the whole baseline is kept low by R.)

    Without selectivity nothing asks that the score stays where nothing of importance goes: what is pasted in may distract from the class
    as well as take it away, and metrics order maps less well. For metrics: `start="local_mean"` with selectivity, as picture of
    `Seamless`. Then `joined` looks at u as `Seamless` makes it of b, the shift taken as fixed in the gradient of a step.

    Parameters:
        file: A baseline learned by the trade-off recipe.
        sha256: Of its image, 64 hexadecimal digits; checked where it is given.
        steps: Of Nesterov-accelerated Adam, for each image.
        rows: Perturbed images in each step.
        learning_rate: Of the optimiser.
        seed: Of the pairs.
        any_model: Also serve models that the file was not learned for.
        start: "learned": the image of the file. "local_mean": the image's means over 8 x 8 cells, smoothed, which tells its colours.
        selectivity: Weight of confidence that changes where only goes what matters least; costs half as many gradients more.
        joined: The reach of the `Seamless` that the image is sought for; none: it is pasted in.

    Reference: our own definition.
    """

    file: str = ""
    sha256: str = field(default="", metadata={FOLLOWS: True})
    steps: int = 8
    rows: int = 6
    learning_rate: float = 0.1
    seed: int = 0
    any_model: bool = False
    start: Start = "learned"
    selectivity: float = 0.0
    joined: float | None = None
    found: Found | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.file:
            raise InputError(
                "file must be given, such as learned_per_image:file=baseline.safetensors; `counterpoint baseline learn` makes one."
            )
        check_range("steps", self.steps, 1)
        check_range("rows", self.rows, 2)
        check_range("learning_rate", self.learning_rate, 0, open_low=True)
        check_range("selectivity", self.selectivity, 0)
        if self.joined is not None:
            check_range("joined", self.joined, 0, open_low=True)
        if self.start not in get_args(Start):
            raise InputError(f"start must be {' or '.join(get_args(Start))}, got {self.start!r}.")
        # Known by its content: another image under the same name is another baseline.
        object.__setattr__(self, "sha256", Learned(file=self.file, sha256=self.sha256).sha256)

    @property
    def without_image(self) -> str:
        """Before `prepare` there is none."""
        return "" if self.found is not None else "it is sought with the model, and its image was not saved"

    def __call__(self, inputs: Images) -> Images:
        """The image found for each of these inputs.

        Raises:
            InputError: not prepared, or for other inputs.
        """
        return pictures_of(self, self.found, inputs)

    def prepare(self, bound: BoundScore, inputs: Images) -> "LearnedPerImage":
        """The same baseline with the image of each input known.

        Raises:
            ShapeError: the inputs are no images.
            InputError: the score is of no class of a module or of another model, or the file was learned by another recipe.
            Cancelled: the progress listener stopped the work.
        """
        module = check_classes(self, bound, inputs).module
        learned = Learned.load(self.file, any_model=self.any_model)
        learned.check_model(bound)
        missing = [name for name in _NEEDED if name not in learned.tensors]
        if missing:
            raise InputError(
                f"file '{self.file}' must be learned by the trade-off recipe, got the {learned.facts.get('recipe')} one, without a bank."
            )
        inputs = inputs.detach()
        layer = cast(str, learned.facts.get("layer", "penultimate"))
        network = Network.of(module, inputs[:1], layer=None if layer == "penultimate" else layer)
        saliency = smoothed_gradient(network.module, inputs)
        pictures = []
        for number in range(len(inputs)):
            with progress.stage(number, number + 1, len(inputs), f"baseline of image {number + 1}"):
                pictures.append(
                    self._picture(
                        learned, network, inputs[number : number + 1], saliency[number : number + 1]
                    )
                )
        return knowing(self, inputs, torch.cat(pictures).to(inputs))

    def _picture(
        self, learned: Learned, network: Network, image: Images, saliency: Float[Tensor, "1 height width"]
    ) -> Images:
        of_file = {name: learned.tensors[name].to(image) for name in _NEEDED}
        _, scores = network.measured(image)
        confidence, classes = scores.softmax(1).max(1)
        judge = Judge(
            network, image, classes, confidence.clamp_min(0.05), of_file["bank"], of_file["log_mean"]
        )
        generator = torch.Generator().manual_seed(self.seed)
        temperature = float(of_file["temperature"])

        def loss(views: Tensor) -> Tensor:
            everything = torch.ones(1, *saliency.shape[1:], dtype=torch.bool)
            removed = [draw_pairs(saliency, self.rows - 1, generator).removed, everything]
            if self.selectivity:
                removed.append(draw_spared(saliency, self.rows // 2, generator).removed)
            gone = torch.cat(removed).to(image.device)
            features, logits, _ = network.read(self._used(views.to(image), image, gone))
            rows = torch.zeros(len(gone), dtype=torch.long)
            scores = judge.scores(features, logits, rows, temperature)
            lost = scores.removed / of_file["removal_unit"]
            balance = (
                scores.distance[: self.rows].mean() / of_file["distance_unit"][0] - lost[: self.rows].mean()
            )
            if not self.selectivity:
                return balance
            return balance + self.selectivity * lost[self.rows :, 0].abs().mean()

        size = (image.shape[2], image.shape[3])
        parametrisation = Fourier(size=max(size), learn_contrast=True)
        result = optimise(
            loss,
            parametrisation,
            size=size,
            views=Whole(),
            steps=self.steps,
            learning_rate=self.learning_rate,
            seed=self.seed,
            start=parametrisation.of(self._start(learned, image).float().cpu()),
            minimise=True,
            device=image.device,
        )
        return result.at(size).detach()

    def _used(
        self, picture: Images, image: Images, removed: Bool[Tensor, "rows height width"]
    ) -> Float[Tensor, "rows channel height width"]:
        """The image without what is removed, once for each row."""
        if self.joined is not None:
            picture, images = picture.expand(len(removed), -1, -1, -1), image.expand(len(removed), -1, -1, -1)
            rest = ~removed.flatten(1).all(1)  # without any there is nothing to join
            picture = picture.index_put(
                (rest,), join(picture[rest], images[rest], removed[rest], self.joined)
            )
        return torch.where(removed.unsqueeze(1), picture, image)

    def _start(self, learned: Learned, image: Images) -> Images:
        if self.start == "learned":
            return learned(image)
        return Blur(sigma=min(image.shape[2:]) / (2 * _CELLS))(LocalMean(cells=_CELLS)(image))
