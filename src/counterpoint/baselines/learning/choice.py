"""Which image the trade-off recipe starts from, and which of those it came by is kept."""

import torch
from jaxtyping import Float
from torch import Tensor

from counterpoint import progress
from counterpoint.baselines.blurred import Blur
from counterpoint.baselines.constant import Constant, RandomColor, Zero
from counterpoint.baselines.learning.lesson import Images
from counterpoint.baselines.learning.pairs import Pairs
from counterpoint.baselines.learning.trade_off import Judge, Scores, TradeOffLoss
from counterpoint.baselines.noise import Normal, Uniform

# Photographs that are tried as a start; pairs that starts are tried at, about.
_UNSURE, _PAIRS = 4, 32
# Of the pairs at most one in so many.
_APART = 3

Image = Float[Tensor, "1 channel height width"]


def best_start(loss: TradeOffLoss, candidates: dict[str, Image]) -> str:
    """The name of the image whose distance and removal are best, at some of the pairs."""
    rows = torch.arange(0, len(loss.pairs), max(_APART, len(loss.pairs) // _PAIRS))
    found = {}
    for k, (name, image) in enumerate(candidates.items()):
        progress.advance(k, len(candidates), "starts")
        scores = scores_of(image[0], loss.judge, loss.pairs[rows], loss.temperature)
        found[name] = float(loss.balance(scores, rows))
    return min(found, key=lambda name: found[name])


def unsure_photographs(judge: Judge, photographs: Images) -> dict[str, Image]:
    """The photographs that the model is least sure of, as they are and blurred.

    A plain image may be the better start at first, but has hardly any contrast to learn from: on EfficientNet-Lite0 a start at mid-grey
    ended beside the rivals, one at a blurred photograph beyond all of them.
    """
    _, scores = judge.network.measured(photographs)
    entropy = -(scores.softmax(1) * scores.log_softmax(1)).sum(1)
    blur = Blur(sigma=min(photographs.shape[2:]) / 75)
    found: dict[str, Image] = {}
    for number in entropy.argsort(descending=True)[:_UNSURE].tolist():
        photograph = photographs[number : number + 1]
        found[f"photograph {number}"] = photograph
        found[f"photograph {number}, blurred"] = blur(photograph)
    return found


def plain_images(judge: Judge) -> dict[str, Image]:
    """Images that show no photograph."""
    like, mean = judge.images[:1], judge.images.mean((0, 2, 3)).tolist()
    return {
        "mid-grey": Zero()(like),
        "uniform noise": Uniform()(like),
        "normal noise": Normal()(like),
        "a random colour": RandomColor()(like),
        "the mean colour": Constant(tuple(mean))(like),
        "the mean image": judge.images.mean(0, keepdim=True),
    }


def best_kept(judge: Judge, pairs: Pairs, images: Images, loss: TradeOffLoss) -> tuple[int, list[float]]:
    """Which image has the smallest distance minus removal at pairs that took no part, in the units of the fit; and that of each."""
    found = []
    for image in images:
        scores = scores_of(image, judge, pairs, loss.temperature)
        removed = (scores.removed / loss.removal_unit).mean()
        found.append(float(loss.weight * scores.distance.mean() / loss.distance_unit - removed))
    return min(range(len(found)), key=lambda k: found[k]), found


def scores_of(
    image: Float[Tensor, "channel height width"], judge: Judge, pairs: Pairs, temperature: float
) -> Scores:
    """The two demands on an image as the baseline."""
    from counterpoint.baselines.learned import Learned

    return judge.of_fills(Learned(image=image, any_model=True), pairs, temperature)
