"""How a baseline is learned: the published recipe, and ours. Both take images and give one image."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from counterpoint import progress
from counterpoint.activations import RECTIFIERS
from counterpoint.baselines.blurred import Blur
from counterpoint.baselines.constant import Constant, RandomColor, Zero
from counterpoint.baselines.learning.network import Network
from counterpoint.baselines.learning.pairs import Pairs, draw_pairs
from counterpoint.baselines.learning.trade_off import Judge, TradeOffLoss
from counterpoint.baselines.noise import Normal, Uniform
from counterpoint.checks import check_range
from counterpoint.errors import InputError
from counterpoint.layers import eager, run_once
from counterpoint.protocols import Baseline
from counterpoint.visualisation import (
    Crops,
    Fourier,
    MaCo,
    Moment,
    Visualisation,
    Whole,
    mean_spectrum,
    optimise,
)
from counterpoint.visualisation.objectives import PENULTIMATE, mean_activation

Images = Float[Tensor, "images channel height width"]
State = Mapping[str, Tensor]
OnStep = Callable[[Moment], None]


@dataclass(frozen=True, kw_only=True, eq=False)
class Lesson:
    """What a recipe learned."""

    image: Float[Tensor, "channel height width"]
    """At the model's size, pixels in [0, 1]."""
    losses: Float[Tensor, " steps"]
    start: str
    """What the optimisation started from."""
    facts: Mapping[str, Any]
    """What else is worth keeping, JSON-ready."""
    tensors: Mapping[str, Tensor]
    """What the variant for single images needs: the bank's features, the mean prediction, units."""
    intermediate: Float[Tensor, "kept channel height width"]
    """Images on the way, the last one included."""


class Recipe(Protocol):
    """A frozen dataclass of settings that can be carried out."""

    name: ClassVar[str]
    least_images: ClassVar[int]

    def learn(
        self,
        module: nn.Module,
        images: Images,
        saliency: Float[Tensor, "images height width"] | None,
        *,
        layer: str | None,
        rivals: Sequence[tuple[str, Baseline]],
        seed: int,
        state: State | None,
        on_step: OnStep | None,
    ) -> Lesson:
        """Carry it out."""
        ...


@dataclass(frozen=True)
class PublishedRecipe:
    """Feature visualisation that silences the penultimate layer: mean |features| over random crops, made small.

    Phases and factors of the mean magnitude spectrum of the images are learned (MaCo with learned magnitude). As published it has
    2,048 steps of 32 crops of an image of 2,048 pixels; the defaults here are smaller.

    Parameters:
        steps: Of Nesterov-accelerated Adam.
        crops: In each step; sides 0.05 to 0.7 of the image's.
        size: Of the image, in pixels; it is brought to the model's size, antialiased, at the end.
        learning_rate: Of the optimiser.

    Reference: Picard et al. 2025, arXiv:2512.11433, from the public code; magnitudes start at 1, since at 0 their gradient is not a number.
    """

    name: ClassVar[str] = "published"
    least_images: ClassVar[int] = 1

    steps: int = 128
    crops: int = 8
    size: int = 512
    learning_rate: float = 1.0

    def __post_init__(self) -> None:
        check_range("steps", self.steps, 1)
        check_range("crops", self.crops, 1)
        check_range("size", self.size, 8)
        check_range("learning_rate", self.learning_rate, 0, open_low=True)

    def quick(self) -> "PublishedRecipe":
        """A quarter of the steps."""
        return replace(self, steps=max(1, self.steps // 4), crops=max(1, self.crops // 2))

    def learn(
        self,
        module: nn.Module,
        images: Images,
        saliency: Float[Tensor, "images height width"] | None,
        *,
        layer: str | None,
        rivals: Sequence[tuple[str, Baseline]],
        seed: int,
        state: State | None,
        on_step: OnStep | None,
    ) -> Lesson:
        """The image whose crops leave the layer silent; of the images only the spectrum is read."""
        height, width = images.shape[2:]
        objective = mean_activation(module, PENULTIMATE if layer is None else layer)
        parametrisation = MaCo(
            mean_spectrum(images, size=self.size),
            size=self.size,
            learn_magnitude=True,
            contrast=0.5,
            as_published=True,
        )
        found = optimise(
            objective,
            parametrisation,
            size=(height, width),
            views=Crops(count=self.crops),
            steps=self.steps,
            learning_rate=self.learning_rate,
            seed=seed,
            state=state,
            keep=4,
            on_step=on_step,
            minimise=True,
            device=images.device,
        )
        with torch.no_grad():
            silence = float(objective(found.at((height, width))))
        facts = {
            "crops_activity": float(found.values[-1]),
            "activity": silence,
            "gradients": self.steps * self.crops,
        }
        return _lesson(found, (height, width), start="random phases", facts=facts, tensors={})


@dataclass(frozen=True)
class TradeOffRecipe:
    """What is used is what is learned: the image at the model's size, pasted in parts along deletion paths, against its rivals.

    The images are split into those that lose pixels, those that say what is in distribution, and those the result is chosen on. The
    start is the best of some photographs that the model is unsure of, as they are and blurred: **the learned image may therefore show one
    of your photographs.** With `photographs=False` it is the best of plain and random images. See `TradeOffLoss` for the loss.

    Parameters:
        steps: Of Nesterov-accelerated Adam.
        rows: Perturbed images in each step.
        pairs: Perturbed images that rivals are measured at and steps are drawn from.
        learning_rate: Of the optimiser, on a Fourier parametrisation.
        weight: Of the distance, beside the removal, both in units of how much the rivals differ.
        dominance: Weight of being beaten by a rival at both demands.
        margin: By how much it wants to be better, in the same units.
        seams: Weight of activity that neither the image nor the baseline has.
        end_point: Weight of KL(mean prediction || prediction of the baseline), in nats.
        temperature: Of the soft distance, in units of the spread of real images.
        photographs: Whether to start from a photograph.

    Reference: our own definition, after the two demands of Picard et al. 2025, arXiv:2512.11433.
    """

    name: ClassVar[str] = "trade-off"
    least_images: ClassVar[int] = 16

    steps: int = 60
    rows: int = 10
    pairs: int = 96
    learning_rate: float = 0.1
    weight: float = 1.0
    dominance: float = 1.0
    margin: float = 0.25
    seams: float = 0.1
    end_point: float = 0.1
    temperature: float = 0.3
    photographs: bool = True

    def __post_init__(self) -> None:
        for name, least in (("steps", 1), ("rows", 2), ("pairs", 12)):
            check_range(name, getattr(self, name), least)
        for name in ("weight", "dominance", "margin", "seams", "end_point", "temperature"):
            check_range(name, getattr(self, name), 0)
        check_range("learning_rate", self.learning_rate, 0, open_low=True)

    def quick(self) -> "TradeOffRecipe":
        """Fewer steps and pairs, and no seams: under a fifth of the work."""
        return replace(self, steps=10, rows=6, pairs=24, seams=0.0)

    def learn(
        self,
        module: nn.Module,
        images: Images,
        saliency: Float[Tensor, "images height width"] | None,
        *,
        layer: str | None,
        rivals: Sequence[tuple[str, Baseline]],
        seed: int,
        state: State | None,
        on_step: OnStep | None,
    ) -> Lesson:
        """Split, measure the rivals, choose a start, optimise, choose on images that took no part."""
        if saliency is None:
            raise InputError(
                "saliency must be given, one map for each image, for a recipe that follows deletion paths."
            )
        generator = torch.Generator().manual_seed(seed)
        parts = _split(len(images), generator)
        watched = _rectifiers(module, images[:1], 3) if self.seams else ()
        network = Network.of(module, images[:2], layer=layer, watched=watched)
        plain = replace(network, watched=())
        judge = Judge.of(plain, images[parts.scored], images[parts.bank])
        pairs = draw_pairs(saliency[parts.scored], self.pairs, generator)
        settings = {
            key: getattr(self, key)
            for key in ("temperature", "weight", "dominance", "margin", "seams", "end_point")
        }
        with progress.stage(0, 0.25, 1, "rivals"):
            loss = TradeOffLoss.against(judge, pairs, rivals, **settings)
        with progress.stage(0.25, 0.4, 1, "starts"):
            name, first = self._start(loss, images[parts.chosen], plain)
        loss = replace(loss, judge=replace(judge, network=network))
        parametrisation = Fourier(size=max(images.shape[2:]), learn_contrast=True)
        done = 0 if state is None else len(state["values"])
        with progress.stage(0.4, 0.9, 1, "learning"):
            found = optimise(
                _Steps(loss, self.rows, seed, done),
                parametrisation,
                size=(images.shape[2], images.shape[3]),
                views=Whole(),
                steps=self.steps,
                learning_rate=self.learning_rate,
                seed=seed,
                start=parametrisation.of(first) if state is None else None,
                state=state,
                keep=4,
                on_step=on_step,
                minimise=True,
                device=images.device,
            )
        with progress.stage(0.9, 1, 1, "choosing"):
            held_out = Judge.of(plain, images[parts.chosen], images[parts.bank])
            others = draw_pairs(saliency[parts.chosen], max(12, self.pairs // 3), generator)
            kept = torch.cat([first, found.intermediate.to(first)])
            best, chances = _best(held_out, others, kept, loss)
        final = replace(loss, judge=replace(judge, network=plain))
        scores = judge.of_fills(_picture(kept[best]), pairs, loss.temperature)
        facts = {
            "start": name,
            "chosen": "start" if best == 0 else f"step {found.intermediate_steps[best - 1]}",
            "loss_where_chosen": chances,
            "fit": {
                "dominated": [
                    n for n, won in zip(final.rivals, final.dominated(scores).tolist(), strict=True) if won
                ]
            },
            "images": {key: len(part) for key, part in vars(parts).items()},
            "gradients": self.steps * (self.rows + 1),
        }
        tensors = {
            "bank": judge.bank,
            "log_mean": judge.log_mean,
            "removal_unit": loss.removal_unit,
            "distance_unit": loss.distance_unit.view(1),
            "temperature": torch.tensor([loss.temperature]),
        }
        lesson = _lesson(found, (images.shape[2], images.shape[3]), start=name, facts=facts, tensors=tensors)
        return replace(lesson, image=kept[best].detach())

    def _start(
        self, loss: TradeOffLoss, photographs: Images, network: Network
    ) -> tuple[str, Float[Tensor, "1 channel height width"]]:
        """The best image to start from, and what it is."""
        _, scores = network.measured(photographs)
        like = photographs[:1]
        candidates: dict[str, Tensor] = {}
        if self.photographs:
            # A plain image may be the better one at first, but has hardly any contrast to learn from: on EfficientNet-Lite0 a start at
            # mid-grey ended beside the rivals, one at a blurred photograph beyond all of them.
            entropy = -(scores.softmax(1) * scores.log_softmax(1)).sum(1)
            side = min(like.shape[2:])
            for number in entropy.argsort(descending=True)[:4].tolist():
                photograph = photographs[number : number + 1]
                candidates[f"photograph {number}"] = photograph
                candidates[f"photograph {number}, blurred"] = Blur(sigma=side / 75)(photograph)
        else:
            mean = loss.judge.images.mean((0, 2, 3)).tolist()
            candidates = {
                "mid-grey": Zero()(like),
                "uniform noise": Uniform()(like),
                "normal noise": Normal()(like),
                "a random colour": RandomColor()(like),
                "the mean colour": Constant(tuple(mean))(like),
                "the mean image": loss.judge.images.mean(0, keepdim=True),
            }
        some = loss.pairs[:: max(1, len(loss.pairs) // 32)]
        rows = torch.arange(0, len(loss.pairs), max(1, len(loss.pairs) // 32))
        found = {}
        for k, (name, image) in enumerate(candidates.items()):
            progress.advance(k, len(candidates), "starts")
            scores_here = loss.judge.of_fills(_picture(image[0]), some, loss.temperature)
            found[name] = float(loss.balance(scores_here, rows))
        best = min(found, key=lambda name: found[name])
        return best, candidates[best]


@dataclass(frozen=True)
class _Parts:
    scored: Int[Tensor, " scored"]
    bank: Int[Tensor, " bank"]
    chosen: Int[Tensor, " chosen"]


def _split(count: int, generator: torch.Generator) -> _Parts:
    """Two fifths lose pixels, two fifths say what is real, the rest is kept to choose on."""
    order = torch.randperm(count, generator=generator)
    first, second = round(0.4 * count), round(0.8 * count)
    return _Parts(order[:first], order[first:second], order[second:])


class _Steps:
    """The loss at other pairs in each step; a run that goes on draws what an uninterrupted one would have."""

    def __init__(self, loss: TradeOffLoss, rows: int, seed: int, done: int) -> None:
        self._loss, self._rows, self._seed, self._step = loss, rows, seed, done

    def __call__(self, views: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(hash((self._seed, self._step)) & (2**63 - 1))
        self._step += 1
        drawn = torch.randperm(len(self._loss.pairs), generator=generator)[: self._rows]
        return self._loss(views, drawn)


def _picture(image: Float[Tensor, "channel height width"]) -> Baseline:
    from counterpoint.baselines.learned import Learned

    return Learned(image=image, any_model=True)


def _best(judge: Judge, pairs: Pairs, images: Images, loss: TradeOffLoss) -> tuple[int, list[float]]:
    """Which image has the smallest distance minus removal at pairs that took no part, in the units of the fit."""
    found = []
    for image in images:
        scores = judge.of_fills(_picture(image), pairs, loss.temperature)
        r = (scores.removed / loss.removal_unit).mean()
        found.append(float(loss.weight * scores.distance.mean() / loss.distance_unit - r))
    return min(range(len(found)), key=lambda k: found[k]), found


def _lesson(
    found: Visualisation,
    size: tuple[int, int],
    *,
    start: str,
    facts: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
) -> Lesson:
    return Lesson(
        image=found.at(size)[0].detach().clamp(0, 1),
        losses=found.losses.detach(),
        start=start,
        facts=facts,
        tensors={name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
        intermediate=found.intermediate.detach(),
    )


def _rectifiers(module: nn.Module, example: Images, count: int) -> tuple[str, ...]:
    """Some activations that run once, spread evenly over the network."""
    seen = run_once(eager(module), example)
    runs = [each.name for each in seen]
    names = [
        each.name
        for each in seen
        if runs.count(each.name) == 1 and type(each.module).__name__.lower() in (*RECTIFIERS, "leakyrelu")
    ]
    places = [round((k + 0.5) * len(names) / count) for k in range(count)]
    return tuple(dict.fromkeys(names[min(place, len(names) - 1)] for place in places)) if names else ()


RECIPES: dict[str, type[PublishedRecipe] | type[TradeOffRecipe]] = {
    "published": PublishedRecipe,
    "trade-off": TradeOffRecipe,
}
