"""The trade-off recipe: what is used is what is learned, against rivals."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from counterpoint import progress
from counterpoint.activations import RECTIFIERS
from counterpoint.baselines.learning.choice import (
    best_kept,
    best_start,
    plain_images,
    scores_of,
    unsure_photographs,
)
from counterpoint.baselines.learning.lesson import Images, Lesson, OnStep, State
from counterpoint.baselines.learning.network import Network
from counterpoint.baselines.learning.pairs import draw_pairs
from counterpoint.baselines.learning.trade_off import Judge, TradeOffLoss
from counterpoint.checks import check_range
from counterpoint.errors import InputError
from counterpoint.layers import eager, run_once
from counterpoint.protocols import Baseline
from counterpoint.visualisation import Fourier, Visualisation, Whole, optimise


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
        size = (images.shape[2], images.shape[3])
        generator = torch.Generator().manual_seed(seed)
        parts = _split(len(images), generator)
        watched = _rectifiers(module, images[:1], 3) if self.seams else ()
        network = Network.of(module, images[:2], layer=layer, watched=watched)
        # Activity is watched in the steps only.
        plain = replace(network, watched=())
        judge = Judge.of(plain, images[parts.scored], images[parts.bank])
        pairs = draw_pairs(saliency[parts.scored], self.pairs, generator)
        with progress.stage(0, 0.25, 1, "rivals"):
            loss = TradeOffLoss.against(
                judge,
                pairs,
                rivals,
                temperature=self.temperature,
                weight=self.weight,
                dominance=self.dominance,
                margin=self.margin,
                seams=self.seams,
                end_point=self.end_point,
            )
        with progress.stage(0.25, 0.4, 1, "starts"):
            starts = (
                unsure_photographs(judge, images[parts.chosen]) if self.photographs else plain_images(judge)
            )
            start = best_start(loss, starts)
        with progress.stage(0.4, 0.9, 1, "learning"):
            watching = replace(loss, judge=replace(judge, network=network))
            found = self._optimised(watching, starts[start], seed, state, on_step)
        with progress.stage(0.9, 1, 1, "choosing"):
            held_out = Judge.of(plain, images[parts.chosen], images[parts.bank])
            others = draw_pairs(saliency[parts.chosen], max(12, self.pairs // 3), generator)
            kept = torch.cat([starts[start], found.intermediate.to(starts[start])])
            best, chances = best_kept(held_out, others, kept, loss)
        beaten = loss.dominated(scores_of(kept[best], judge, pairs, loss.temperature)).tolist()
        facts = {
            "start": start,
            "chosen": "start" if best == 0 else f"step {found.intermediate_steps[best - 1]}",
            "loss_where_chosen": chances,
            "fit": {"dominated": [name for name, won in zip(loss.rivals, beaten, strict=True) if won]},
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
        lesson = Lesson.of(found, size, start=start, facts=facts, tensors=tensors)
        return replace(lesson, image=kept[best].detach())

    def _optimised(
        self, loss: TradeOffLoss, start: Images, seed: int, state: State | None, on_step: OnStep | None
    ) -> Visualisation:
        """The images on the way from a start, or from where an earlier run was stopped."""
        height, width = start.shape[2:]
        parametrisation = Fourier(size=max(height, width), learn_contrast=True)
        done = 0 if state is None else len(state["values"])
        return optimise(
            _Steps(loss, self.rows, seed, done),
            parametrisation,
            size=(height, width),
            views=Whole(),
            steps=self.steps,
            learning_rate=self.learning_rate,
            seed=seed,
            start=parametrisation.of(start) if state is None else None,
            state=state,
            keep=4,
            on_step=on_step,
            minimise=True,
            device=start.device,
        )


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
