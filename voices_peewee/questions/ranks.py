"""Mean ranks of several models on the units that all of them have a value of."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from voices_peewee.questions.comparison import Comparison


class Ranks(NamedTuple):
    """Mean ranks, after Demšar (Statistical Comparisons of Classifiers, JMLR 2006).

    ``means`` has the mean rank of each model, the best (nearest 1) first, over ``n`` common
    units; equal values share the mean of their ranks. ``bars`` are the models that cannot be
    told apart: those that share a letter, in the same order.
    """

    unit: str
    n: int
    means: dict[str, float]
    bars: tuple[tuple[str, ...], ...]


def mean_ranks(
    models: Sequence[str], pairs: Mapping[tuple[str, str], Comparison], letters: Mapping[str, str]
) -> Ranks:
    """Return the ranks of models of which every pair was compared."""
    unit = next(iter(pairs.values())).unit
    of_pairs = {both: _differences(pair, unit) for both, pair in pairs.items()}
    common = set.intersection(*map(set, of_pairs.values()))
    behind = dict.fromkeys(models, 0.0)  # how often another one was better; half of a tie
    for (a, b), of in of_pairs.items():
        differences = [of[one] for one in common]
        ties = differences.count(0.0)
        above = sum(difference > 0 for difference in differences)
        losses = above if pairs[a, b].higher_is_better else len(common) - ties - above
        behind[a] += losses + ties / 2
        behind[b] += len(common) - losses - ties / 2
    if not common:
        return Ranks(unit, 0, {}, ())
    ranked = sorted(models, key=behind.__getitem__)
    means = {model: 1 + behind[model] / len(common) for model in ranked}
    return Ranks(unit, len(common), means, _bars(means, letters))


def _differences(pair: Comparison, unit: str) -> dict[Hashable, float]:
    """Return the difference of each unit."""
    of = pair.units
    keys: Mapping[str, Iterable[Hashable]] = {
        "recording": of.recordings,
        "speaker": of.speakers,
        "stem": zip(of.recordings, of.speakers, strict=True),
    }
    return dict(zip(keys[unit], of.differences, strict=True))


def _bars(means: Mapping[str, float], letters: Mapping[str, str]) -> tuple[tuple[str, ...], ...]:
    """Return the models of each letter that several share."""
    own = {model: re.findall("[a-z]'*", letters[model]) for model in means}
    every = dict.fromkeys(chain.from_iterable(own.values()))
    shared = (tuple(model for model in means if letter in own[model]) for letter in every)
    return tuple(models for models in shared if len(models) > 1)
