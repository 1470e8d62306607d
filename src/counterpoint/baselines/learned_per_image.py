"""A learned baseline fitted to each image by a few more steps."""

from dataclasses import dataclass, field
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

from counterpoint import progress
from counterpoint.baselines.learned import Learned
from counterpoint.baselines.learning import smoothed_gradient
from counterpoint.baselines.learning.network import Network
from counterpoint.baselines.learning.pairs import Pairs, draw_pairs
from counterpoint.baselines.learning.trade_off import Judge
from counterpoint.baselines.prepared import Found, check_classes, knowing, pictures_of
from counterpoint.checks import check_range
from counterpoint.errors import InputError
from counterpoint.protocols import Baseline, BoundScore
from counterpoint.spec import FOLLOWS
from counterpoint.visualisation import Fourier, Whole, optimise

Images = Float[Tensor, "batch channel height width"]

_NEEDED = ("bank", "log_mean", "removal_unit", "distance_unit", "temperature")


@dataclass(frozen=True)
class LearnedPerImage(Baseline):
    """A learned baseline that a few steps of its own loss bring closer to each image's needs.

    It starts from the image of `file`, and makes small E[O] - E[R] over points of the image's own deletion paths, the whole image removed
    among them, with the bank and the units of the file. The model's top class of the image is read, the image's own features are not:
    nothing pulls the baseline towards the image.

    Parameters:
        file: A baseline learned by the trade-off recipe.
        sha256: Of its image, 64 hexadecimal digits; checked where it is given.
        steps: Of Nesterov-accelerated Adam, for each image.
        rows: Perturbed images in each step.
        learning_rate: Of the optimiser.
        seed: Of the pairs.
        any_model: Also serve models that the file was not learned for.

    Reference: our own definition.
    """

    file: str = ""
    sha256: str = field(default="", metadata={FOLLOWS: True})
    steps: int = 8
    rows: int = 6
    learning_rate: float = 0.1
    seed: int = 0
    any_model: bool = False
    found: Found | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.file:
            raise InputError(
                "file must be given, such as learned_per_image:file=baseline.safetensors; `counterpoint baseline learn` makes one."
            )
        check_range("steps", self.steps, 1)
        check_range("rows", self.rows, 2)
        check_range("learning_rate", self.learning_rate, 0, open_low=True)
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
            pairs = draw_pairs(saliency, self.rows - 1, generator)
            everything = torch.ones(1, *saliency.shape[1:], dtype=torch.bool)
            pairs = Pairs(torch.zeros(self.rows, dtype=torch.long), torch.cat([pairs.removed, everything]))
            u = torch.where(pairs.removed.to(image.device).unsqueeze(1), views.to(image), image)
            features, logits, _ = network.read(u)
            found = judge.scores(features, logits, pairs.image, temperature)
            removed = (found.removed / of_file["removal_unit"]).mean()
            return found.distance.mean() / of_file["distance_unit"][0] - removed

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
            start=parametrisation.of(learned(image).float().cpu()),
            minimise=True,
            device=image.device,
        )
        return result.at(size).detach()
