"""What a benchmark says, in plain words, and how sure it is."""

from collections.abc import Iterable, Sequence

import numpy as np

from counterpoint.bench.contenders import Contender
from counterpoint.bench.metrics import HIGHER_IS_BETTER
from counterpoint.bench.pairs import LEVEL, Pair, pair_tests, pairs_of
from counterpoint.bench.results import Results
from counterpoint.bench.stability import dependence_of, stability_of
from counterpoint.bench.standings import Standing, standings
from counterpoint.bench.values import Values, measured, values
from counterpoint.errors import InputError

_SHOWN = 3
_READABLE = {"relevance_gain": "insertion minus deletion"}
_FEWEST = 4
"""Images that can be split into halves of more than one."""
_SAME = 0.1
"""A gap in tau that is called none if it is surely below."""


def verdict(results: Results, *, resamples: int = 2000, seed: int = 0) -> list[str]:
    """Sentences on which method is best by each metric, how sure, under which evaluation baselines, and what failed.

    "Better" is said where Wilcoxon's signed-rank test with Holm's correction over all pairs tells two apart at 5 %, and the means point the
    same way. Each model is spoken of by itself.

    Args:
        results: Of a benchmark.
        resamples: Of the images.
        seed: Of resamples and splits.

    Raises:
        InputError: nothing was measured.
    """
    models, metrics = measured(results)
    sentences = [_size(results)]
    for model in models:
        for metric in metrics:
            if HIGHER_IS_BETTER.get(metric) is None:
                continue
            title = _title(metric) if len(models) == 1 else f"{model}, {_title(metric).lower()}"
            try:
                found = values(results, metric, model=model)
            except InputError:
                sentences.append(f"{title}: no method has numbers on at least half of the images.")
                continue
            sentences += about(found, title, resamples=resamples, seed=seed)
    return sentences + _failures(results)


def about(found: Values, title: str, *, resamples: int = 2000, seed: int = 0) -> list[str]:
    """Sentences on one metric, each of which begins with `title` or goes on from the one before."""
    count = len(found.contenders)
    left_out = (
        f" Without numbers on most of the images, and so not ranked: {_some([c.name for c in found.absent])}."
        if found.absent
        else ""
    )
    if count < 2:
        return [
            f"{title}: only {found.contenders[0].name} has numbers, so that there is nothing to compare.{left_out}"
        ]
    if not found.scores().shape[1]:
        return [f"{title}: no image has numbers for every one of {count} contenders.{left_out}"]
    order = standings(found, resamples=resamples, seed=seed)
    sentences = [_best(found, order, title) + left_out, _certainty(found, order, resamples, seed)]
    enough = _enough(order[0].images, count)
    if len(found.evaluations) > 1:
        sentences.append(_leaders(found, title))
        if order[0].images >= _FEWEST:
            sentences.append(_agreement(found, title, resamples, seed))
        if enough:
            sentences.append(_survivors(found, title))
    if len(found.seeds) > 1 and found.by_seed().shape[-1] > 1:
        each = stability_of(found, "seed", resamples=resamples, seed=seed)
        sentences.append(
            f"{title}: rankings with different seeds agree with mean tau {each.mean_tau:.2f} ({each.low:.2f} to {each.high:.2f})."
        )
    return sentences


def _size(results: Results) -> str:
    (models, images, contenders, evaluations) = results.query(
        "SELECT count(DISTINCT model), count(DISTINCT image), count(DISTINCT (method, against, layer)), "
        "count(DISTINCT evaluation) FILTER (evaluation <> '') FROM measures"
    )[1][0]
    asked = results.manifest.get("data", {}).get("images", images)
    of = "" if asked == images else f" (of {asked} asked for)"
    return (
        f"{_number(contenders, 'contender')} (method, attribution baseline and layer) on {_number(images, 'image')}{of} and "
        f"{_number(models, 'model')}, judged under {_number(evaluations, 'evaluation baseline')}."
    )


def _best(found: Values, order: Sequence[Standing], title: str) -> str:
    best = order[0]
    way = "higher" if found.sign > 0 else "lower"
    over = f", mean over {len(found.evaluations)} evaluation baselines" if len(found.evaluations) > 1 else ""
    missing = (
        f" ({best.left_out} left out because some contender lacks a number there)" if best.left_out else ""
    )
    images = _number(best.images, "image")
    start = f"{title} ({way} is better{over}), {images}{missing}: "
    tied = [each for each in order if each.rank == 1]
    if len(tied) > 1:
        return f"{start}{_some([each.contender.name for each in tied])} share the best mean, {best.mean:.3g}."
    return (
        f"{start}{best.contender.name} has the best mean, {best.mean:.3g} ({best.low:.3g} to {best.high:.3g}); it is first in "
        f"{_share(best.first)} of resamples of the images, and its rank is {_range(best.rank_low, best.rank_high)} of {len(order)}."
    )


def _certainty(found: Values, order: Sequence[Standing], resamples: int, seed: int) -> str:
    """Whom the best one is told apart from."""
    best, images, count = order[0].contender, order[0].images, len(order)
    if not _enough(images, count):
        total = count * (count - 1) // 2
        return (
            f"{_number(images, 'image')} {'is' if images == 1 else 'are'} too few to tell {_number(total, 'pair')} of contenders apart: "
            f"even one that is better on every image would have a corrected p of {min(1.0, _least(images, count)):.2f}."
        )
    own = {
        _other(pair, best): pair
        for pair in pairs_of(found, resamples=resamples, seed=seed)
        if best in (pair.better, pair.worse)
    }
    rivals = [own[each.contender] for each in order[1:]]
    open_ = [pair for pair in rivals if not pair.sure]
    if not open_:
        worst = max(pair.p_holm for pair in rivals)
        nearest = rivals[0]
        return (
            f"It is better than every other one (corrected p at most {worst:.2g}); than the next, {nearest.worse.name}, by "
            f"{nearest.difference:.3g} ({nearest.low:.3g} to {nearest.high:.3g})."
        )
    text = f"Not told apart from it: {_some([_other(pair, best).name for pair in open_])} ({len(open_)} of {count - 1} others)."
    against = [pair for pair in open_ if pair.p_holm < LEVEL]
    if against:
        other = _other(against[0], best)
        share = 1 - against[0].wins if against[0].better == best else against[0].wins
        text += (
            f" {other.name} is better on {share:.0%} of the images for all that (corrected p {against[0].p_holm:.2g}): a few images "
            "decide the means."
        )
    return text


def _leaders(found: Values, title: str) -> str:
    """Who is first under which evaluation baseline."""
    means = found.by_evaluation().mean(2) * found.sign
    under: dict[str, list[str]] = {}
    for baseline, column in zip(found.evaluations, means.T, strict=True):
        names = [found.contenders[c].name for c in np.flatnonzero(column == column.max())]
        under.setdefault(_some(names), []).append(baseline)
    if len(under) == 1:
        return f"{title}: the best mean is that of {next(iter(under))} under every evaluation baseline."
    each = "; ".join(f"{names} under {_listed(baselines)}" for names, baselines in under.items())
    return f"{title}: the best mean depends on the evaluation baseline: {each}."


def _agreement(found: Values, title: str, resamples: int, seed: int) -> str:
    """Whether the ranking survives another evaluation baseline."""
    whole = stability_of(found, "evaluation", resamples=resamples, seed=seed)
    split = dependence_of(found, seed=seed)
    if np.isnan(whole.mean_tau) or np.isnan(split.gap):
        return f"{title}: under some evaluation baseline all contenders are tied, so that rankings cannot be compared."
    if split.low > 0:
        says = "so the ranking depends on the baseline"
    elif split.high < _SAME:
        says = "so the ranking does not depend on the baseline by more than chance"
    else:
        says = "so these images cannot tell whether the ranking depends on the baseline"
    return (
        f"{title}: rankings under different evaluation baselines agree with mean tau {whole.mean_tau:.2f} ({whole.low:.2f} to "
        f"{whole.high:.2f}), W {whole.concordance:.2f} (p {whole.p_value:.2g}). Rankings of two halves of the images agree with tau "
        f"{split.within:.2f} if the baseline is the same and {split.within - split.gap:.2f} if not "
        f"(difference {split.gap:.2f}, {split.low:.2f} to {split.high:.2f}), {says}."
    )


def _survivors(found: Values, title: str) -> str:
    """Which pairs have one winner under every evaluation baseline, and which change it."""
    numbers = found.by_evaluation() * found.sign
    tests = [pair_tests(np.ascontiguousarray(numbers[:, b])) for b in range(numbers.shape[1])]
    sure = np.stack([test.sure for test in tests])
    kept = [(k, int(sure[0, k])) for k in np.flatnonzero((sure != 0).all(0) & (sure == sure[0]).all(0))]
    turned = np.flatnonzero((sure > 0).any(0) & (sure < 0).any(0))
    names = [each.name for each in found.contenders]
    first, second = tests[0].first, tests[0].second
    shown = [
        f"{names[first[k] if way > 0 else second[k]]} beats {names[second[k] if way > 0 else first[k]]}"
        for k, way in kept[:_SHOWN]
    ]
    verb = "has" if sure.shape[1] == 1 else "have"
    text = (
        f"{title}: {len(kept)} of {_number(sure.shape[1], 'pair')} {verb} the same sure winner under every "
        "evaluation baseline"
    )
    text += (", such as: " if len(kept) > _SHOWN else ": ") + "; ".join(shown) + "." if shown else "."
    if len(turned):
        k, verb = turned[0], "changes" if len(turned) == 1 else "change"
        here, there = found.evaluations[int(sure[:, k].argmax())], found.evaluations[int(sure[:, k].argmin())]
        text += (
            f" {_number(len(turned), 'pair')} surely {verb} the winner, such as: {names[first[k]]} beats "
            f"{names[second[k]]} under {here}, and loses under {there}."
        )
    return text


def _failures(results: Results) -> list[str]:
    """How many maps and measures there should have been, and are not."""
    rows = results.rows(
        "SELECT method, count(*) AS failed FROM explanations WHERE status <> 'ok' GROUP BY method ORDER BY failed DESC, method"
    )
    total = results.query("SELECT count(*) FROM explanations")[1][0][0]
    failed = sum(row["failed"] for row in rows)
    sentences = []
    if failed:
        by = _some([f"{row['method']} ({row['failed']})" for row in rows])
        sentences.append(f"{failed} of {_number(total, 'explanation')} failed: {by}.")
    elif total:
        sentences.append(f"None of {_number(total, 'explanation')} failed.")
    lacking, all_ = results.query("SELECT count(*) FILTER (status <> 'ok'), count(*) FROM measures")[1][0]
    if lacking:
        sentences.append(f"{lacking} of {_number(all_, 'measure')} failed.")
    return sentences


def _enough(images: int, contenders: int) -> bool:
    """Whether any pair could be told apart."""
    return _least(images, contenders) < LEVEL


def _least(images: int, contenders: int) -> float:
    """The smallest corrected p-value that the signed-rank test can give to the first of all pairs."""
    return float(contenders * (contenders - 1) // 2 * 2.0 ** (1 - images))


def _other(pair: Pair, one: Contender) -> Contender:
    return pair.worse if pair.better == one else pair.better


def _title(metric: str) -> str:
    return _READABLE.get(metric, metric.replace("_", " ")).capitalize()


def _share(share: float) -> str:
    """In percent; all is said of all only."""
    return "more than 99%" if 0.995 <= share < 1 else "less than 1%" if 0 < share < 0.005 else f"{share:.0%}"


def _range(low: int, high: int) -> str:
    return str(low) if low == high else f"{low} to {high}"


def _number(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _some(names: Sequence[str]) -> str:
    """The first few, and how many more."""
    if len(names) <= _SHOWN + 1:
        return _listed(names)
    return f"{', '.join(names[:_SHOWN])} and {len(names) - _SHOWN} others"


def _listed(names: Iterable[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last
