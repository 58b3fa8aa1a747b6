"""What votes say: the error of a share, and the order of more than two models."""

from __future__ import annotations

import math
import random

import pytest

from voices_peewee.questions.preferences import preferences
from voices_peewee.questions.shares import Vote, bradley_terry, preferred


def simulated(
    chance: random.Random, listeners: int, recordings: int, spread: tuple[float, float]
) -> list[Vote]:
    """Return votes on equal models; each listener, and each recording, prefers one of them."""
    of_listener = [chance.gauss(0, spread[0]) for _ in range(listeners)]
    of_recording = [chance.gauss(0, spread[1]) for _ in range(recordings)]
    votes = []
    for listener, own in enumerate(of_listener):
        for recording, its in enumerate(of_recording):
            share = float(chance.random() < 1 / (1 + math.exp(-own - its)))
            share = 0.5 if chance.random() < 0.15 else share
            votes.append(Vote(str(listener), recording, "a", "b", share))
    return votes


@pytest.mark.once
@pytest.mark.parametrize(
    ("size", "spread"), [((8, 20), (0.3, 0.8)), ((8, 20), (0.8, 0.8)), ((16, 20), (0.3, 0.8))]
)
def test_false_alarms(size: tuple[int, int], spread: tuple[float, float]) -> None:
    """Equal models are told apart in about 5 % of tests, by a sign test in 17 to 26 %."""
    chance = random.Random(1)
    found = [preferred(simulated(chance, *size, spread)).p for _ in range(600)]
    assert 0.01 < sum(p is not None and p < 0.05 for p in found) / 600 < 0.08


def test_a_share_by_hand() -> None:
    """Two listeners and two recordings: the two-way variance as it is added up by hand."""
    shares = {("x", 1): 1.0, ("x", 2): 1.0, ("y", 1): 1.0, ("y", 2): 0.0}
    found = preferred([Vote(*key, "a", "b", share) for key, share in shares.items()])
    assert found.mean == 0.75
    # Residuals .25 .25 .25 -.75 over 4: listeners' sums .125 and -.125, recordings' the same.
    both = 2 * (0.125**2 + 0.125**2)
    cells = 3 * 0.0625**2 + 0.1875**2
    error = math.sqrt(max(both, 2 * both - cells))
    assert found.high is not None
    assert (found.high - 0.75) / error == pytest.approx(12.706, abs=1e-3)


def test_a_and_b_are_the_same_the_other_way_round() -> None:
    """Turned votes have the turned share and the same p-value, of two models and of three."""
    chance = random.Random(3)
    votes = simulated(chance, 4, 9, (0.3, 0.8))
    found, turned = preferred(votes), preferred([vote.turned() for vote in votes])
    assert found.mean == pytest.approx(1 - (turned.mean or 0))
    assert found.p == pytest.approx(turned.p)
    three = [vote._replace(b=chance.choice("bc")) for vote in votes]
    one = bradley_terry(three, "abc")
    two = bradley_terry([vote.turned() for vote in three], "abc")
    assert one["b", "c"] == pytest.approx(two["b", "c"])


def test_strengths_have_the_wins_that_were_counted() -> None:
    """At the estimate each model's expected wins are its own, half a vote a side among them."""
    wins = {("a", "b"): (3, 9), ("a", "c"): (2, 10), ("b", "c"): (5, 7)}
    votes = [
        Vote(str(k % 4), k, *pair, float(k >= lost))
        for pair, (lost, won) in wins.items()
        for k in range(lost + won)
    ]
    found = bradley_terry(votes, "abc")
    shares = {pair: of.mean or 0 for pair, of in found.items()}
    logit = {pair: math.log(share / (1 - share)) for pair, share in shares.items()}
    assert logit["a", "c"] == pytest.approx(logit["a", "b"] + logit["b", "c"])
    expected = 13 * (1 - shares["a", "b"]) + 13 * (1 - shares["a", "c"])
    assert expected == pytest.approx(3 + 2 + 0.5 + 0.5)


def test_a_model_that_always_wins_has_a_finite_share() -> None:
    """Half a vote on both sides keeps it below one, and one listener has an interval."""
    votes = [Vote("x", k, "a", "bc"[k % 2], 1.0) for k in range(8)]
    pairs = preferences(votes, ["a", "b", "c"])
    assert all(pair.share is not None and 0 < pair.share < 1 for pair in pairs)
    assert [pair.votes for pair in pairs] == [4, 4, 0]


def test_what_si_snri_says_stands_beside() -> None:
    """The mean difference in dB, whether it agrees, and the correlation over pairs of stems."""
    votes = [
        Vote(str(k // 8), k % 8, "a", "b", float(k % 8 > 0), (k % 8, -1), 1.0 + k % 8)
        for k in range(64)
    ]
    (pair,) = preferences(votes, ["a", "b"])
    assert str(pair) == (
        "b is preferred: 88 % of votes for b against a; SI-SNRi has +4.50 dB for b, which agrees; "
        "both have r = 0.58 over 8 pairs of stems"
    )


def test_models_that_no_votes_join_have_no_order() -> None:
    """Two islands of votes are not ranked together."""
    votes = [Vote("x", k, *pair, 1.0) for k, pair in enumerate(["ab", "cd", "ab", "cd"])]
    assert bradley_terry(votes, "abcd") == {}
    assert str(preferences(votes, list("abcd"))[0]) == "a and b: the votes do not join them"
