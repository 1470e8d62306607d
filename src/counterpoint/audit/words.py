"""What an audit says, in plain words, and how sure it is."""

import math
from collections.abc import Sequence

from counterpoint.audit.baseline_audit import BaselineAudit
from counterpoint.audit.evidence import EvidenceAudit
from counterpoint.audit.measures import MEASURES, REMOVALS
from counterpoint.audit.rankings import METRICS, Metric, RankingAudit

_SURE, _LIKELY = 0.95, 0.5
_READABLE: dict[str, str] = {
    "confidence_lost": "confidence lost",
    "entropy": "entropy",
    "negative_divergence": "divergence from the mean prediction",
    "deletion": "deletion",
    "insertion": "insertion",
    "relevance_gain": "insertion minus deletion",
}


def recommendation(audit: BaselineAudit) -> list[str]:
    """Sentences on which baseline to take; each claim by paired 95 % intervals over the images."""
    sentences = []
    shares = audit.chosen.tolist()
    order = sorted(range(len(shares)), key=lambda b: -shares[b])
    best, share = audit.names[order[0]], shares[order[0]]
    rivals = [audit.names[b] for b in order[1:] if shares[b] >= 0.05]
    if share >= _SURE:
        sentences.append(
            f"Weighing both demands equally, take {best}: it is the best compromise in {share:.0%} of resamples."
        )
    elif share >= _LIKELY:
        sentences.append(
            f"Weighing both demands equally, {best} is the best compromise in {share:.0%} of resamples; {_listed(rivals)} may be as good."
        )
    else:
        close = [best, *rivals]
        sentences.append(
            f"No baseline stands out on {len(audit.images)} images: {_listed(close)} share the first place, "
            f"{best} most often ({share:.0%} of resamples)."
        )
    free = audit.undominated
    beaten = [name for name in audit.names if name not in free]
    if beaten:
        by = {
            name: [
                audit.names[i]
                for i in audit.dominated[:, audit.names.index(name)].nonzero().flatten().tolist()
            ]
            for name in beaten
        }
        sentences.append(
            "Worse than another one both at staying in distribution and at removing information (two of three scores): "
            + "; ".join(
                f"{name} (than {_listed(by[name][:3])}{' and others' if len(by[name]) > 3 else ''})"
                for name in beaten
            )
            + "."
        )
    else:
        sentences.append("None is worse than another one at both demands: every one is a trade-off.")
    sentences += [_line_sentence(audit, name) for name in REMOVALS]
    sentences.append(_earned_sentence(audit))
    return sentences


def conclusions(audit: RankingAudit) -> list[str]:
    """Sentences on which rankings survive another baseline."""
    sentences = []
    for metric in METRICS:
        stability, (low, high) = audit.stability(metric), audit.stability_interval(metric)
        ceiling, _ = audit.ceiling(metric)
        gap, (gap_low, gap_high) = audit.dependence(metric)
        if gap_low > 0:
            verdict = "so the ranking depends on the baseline"
        elif gap_high < 0.1:
            verdict = "so the ranking does not depend on the baseline by more than chance"
        else:
            verdict = "so these images cannot tell whether the ranking depends on the baseline"
        sentences.append(
            f"{_READABLE[metric].capitalize()}: rankings under different baselines agree with mean tau {stability.mean_tau:.2f} "
            f"({low:.2f} to {high:.2f}), W {stability.concordance:.2f} (chance {stability.null:.2f}, p {stability.p_value:.3f}). Two "
            f"halves of the images agree with {ceiling:.2f} under one baseline, {gap:.2f} ({gap_low:.2f} to {gap_high:.2f}) more "
            f"than under two, {verdict}."
        )
        surviving = audit.surviving(metric)
        total = len(audit.contenders) * (len(audit.contenders) - 1) // 2
        examples = "; ".join(f"{better} beats {worse}" for better, worse in surviving[:3])
        sentences.append(
            f"{len(surviving)} of {total} pairs have the same winner under every baseline (95 %)"
            + (f", such as: {examples}." if surviving else ".")
        )
        against = audit.contradicted(metric)
        if against:
            one, other, here, there = against[0]
            sentences.append(
                f"{len(against)} pairs change their order (95 % both ways), such as: {one} beats {other} under {here}, and loses under "
                f"{there}."
            )
        sentences += circularity_sentences(audit, metric)
    return sentences


def evidence_sentences(audit: EvidenceAudit) -> list[str]:
    """Under which baseline each metric orders maps best, under which surely worse, and where it does no better than chance."""
    sentences = []
    for metric in audit.correct:
        means = audit.means(metric)
        best, gaps = int(means.argmax()), audit.gaps(metric)
        worse = [name for b, name in enumerate(audit.baselines) if float(gaps[0, b]) > 0]
        level = audit.intervals(metric)
        blind = [name for b, name in enumerate(audit.baselines) if float(level[0, b]) <= 0.5]
        low, high = level[:, best].tolist()
        sentences.append(
            f"{_READABLE[metric].capitalize()}: best under {audit.baselines[best]}, where {float(means[best]):.0%} of the pairs "
            f"({low:.0%} to {high:.0%}) come in the right order."
            + (
                f" Surely less often (95 %) under {_listed(worse)}."
                if worse
                else " Under no other surely less often."
            )
            + (f" Not surely better than chance under {_listed(blind)}." if blind else "")
        )
    return sentences


def circularity_sentences(audit: RankingAudit, metric: Metric) -> list[str]:
    """Whether maps do better under the baseline that they were made against, one sentence for each method that shows it."""
    sentences = []
    for found in audit.circularity(metric):
        low, high = found.gain_interval
        if math.isnan(found.gain):
            continue
        if low > 0:
            verdict = "the evaluation favours its own baseline"
        elif high < 0:
            verdict = "its own baseline is to its disadvantage"
        else:
            verdict = "no favour is shown"
        sentences.append(
            f"{_READABLE[metric].capitalize()}, {found.method}: judged by the baseline it was made against, a map gains {found.gain:+.3f} "
            f"({low:+.3f} to {high:+.3f}) of area over being judged by another's: {verdict}."
        )
    return sentences


def _line_sentence(audit: BaselineAudit, removal: str) -> str:
    r, (low, high), line = audit.trade_off_line(removal)
    text = f"Over the baselines, {_READABLE[removal]} and distance correlate with {r:.2f} ({low:.2f} to {high:.2f})"
    if line is None:
        return f"{text}: nothing can be said about a trade-off line."
    return f"{text}: " + (
        "what removes more leads further out." if line[0] > 0 else "what removes more stays further in."
    )


def _earned_sentence(audit: BaselineAudit) -> str:
    parts = []
    for name in ("deletion_beyond", "insertion_beyond"):
        means = audit.means(name)
        if bool(means.isfinite().all()):
            low, high = float(means.min()), float(means.max())
            worst, least = audit.names[int(means.argmax())], audit.names[int(means.argmin())]
            kind = name.partition("_")[0]
            parts.append(f"{kind} earns {low:.0%} (under {least}) to {high:.0%} (under {worst}) of its area")
    return f"Further out than 95 % of real images, {' and '.join(parts)}." if parts else ""


def _listed(names: Sequence[str]) -> str:
    if len(names) < 2:
        return "".join(names) or "no other"
    return f"{', '.join(names[:-1])} and {names[-1]}"


def measure_legend() -> list[str]:
    """What each column of the table is, and which way is better."""
    ways = {True: "higher is better", False: "lower is better", None: "neither way is better"}
    return [f"{each.name}: {each.meaning}; {ways[each.higher_is_better]}." for each in MEASURES.values()]
