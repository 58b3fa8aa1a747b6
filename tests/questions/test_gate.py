"""A comparison as a gate: why a build has to stop, each reason in its own sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.cli_tools import run, usage
from support.measured import measure

from voices_peewee import DatabaseManager
from voices_peewee.questions.gate import Gate

A, B = "demucs:4.0", "svoice:1.2"
BASE = [10.0, 12.0, 9.0, 11.0, 10.5, 12.5]
WORSE = [9.5, 11.4, 8.6, 10.4, 10.1, 11.9]  # by 0.5 on average: 0.41 to 0.62
GATES: dict[str, tuple[Any, list[str], int, str]] = {
    "worse": (
        WORSE,
        ["--fail-if-worse", "0.1"],
        1,
        "svoice:1.2 is worse than demucs:4.0 by more than 0.1 dB: worse by +0.41 to +0.62\n",
    ),
    "not shown to be worse": (WORSE, ["--fail-if-worse", "0.5"], 0, ""),
    "not worse": (WORSE, ["--require-not-worse", "0.7"], 0, ""),
    "not shown to be no worse": (
        WORSE,
        ["--require-not-worse", "0.5"],
        1,
        (
            "svoice:1.2 is not shown to be no more than 0.5 dB worse than demucs:4.0: worse by "
            "+0.41 to +0.62\n"
        ),
    ),
    "identically worse": (
        [value - 0.5 for value in BASE],
        ["--fail-if-worse", "0.1"],
        1,
        (
            "all 6 differences between demucs:4.0 and svoice:1.2 are identical: judged is the one "
            "there is, which is no certainty\n"
            "svoice:1.2 is worse than demucs:4.0 by more than 0.1 dB: worse by +0.50\n"
        ),
    ),
    "identically no worse": (
        [value - 0.5 for value in BASE],
        ["--require-not-worse", "0.6"],
        0,
        (
            "all 6 differences between demucs:4.0 and svoice:1.2 are identical: judged is the one "
            "there is, which is no certainty\n"
        ),
    ),
    "the same values": (BASE, ["--fail-if-worse", "0", "--require-not-worse", "0"], 0, ""),
    "lost": (
        [*BASE[:4], "failed", None],
        ["--fail-if-worse", "0.5"],
        1,
        "svoice:1.2 lacks values that demucs:4.0 has, in 2 recordings\n",
    ),
    "one lost": (
        [*BASE[:5], "failed"],
        ["--fail-if-worse", "0.5"],
        1,
        "svoice:1.2 lacks values that demucs:4.0 has, in 1 recording\n",
    ),
    "lost more than allowed": (
        [*BASE[:4], "failed", None],
        ["--fail-if-worse", "0.5", "--allow-lost", "1"],
        1,
        (
            "svoice:1.2 lacks values that demucs:4.0 has, in 2 recordings; --allow-lost 1 "
            "allows fewer\n"
        ),
    ),
    "allowed to lose": (
        [*BASE[:4], "failed", None],
        ["--fail-if-worse", "0.5", "--allow-lost", "2"],
        0,
        "",
    ),
    "none common": (
        ["failed"] * 6,
        ["--fail-if-worse", "0.5", "--allow-lost", "9"],
        1,
        "no recording has a value from both demucs:4.0 and svoice:1.2: A has 6, B has 0\n",
    ),
    "no interval passes": (
        [8.0],
        ["--fail-if-worse", "0.5", "--allow-lost", "9"],
        0,
        "one recording has no interval: svoice:1.2 is not shown to be worse\n",
    ),
    "no interval proves nothing": (
        [12.0],
        ["--require-not-worse", "0.5", "--allow-lost", "9"],
        1,
        (
            "svoice:1.2 is not shown to be no more than 0.5 dB worse than demucs:4.0: one "
            "recording has no interval\n"
        ),
    ),
}


@pytest.mark.parametrize(("b", "options", "code", "said"), GATES.values(), ids=GATES)
def test_a_gate_says_why(path: Any, b: Any, options: list[str], code: int, said: str) -> None:
    """Exit 1 with a sentence for each reason, and nothing else on stderr."""
    with DatabaseManager(path).initialize() as db:
        measure(db, A, BASE)
        measure(db, B, b)
    done = run("--db", path, "compare", A, B, "--json", *options)
    assert (done.code, done.err) == (code, said)


def test_lost_recordings_may_be_narrowed_away(path: Any) -> None:
    """What the words leave out is not in question, and not lost."""
    with DatabaseManager(path).initialize() as db:
        measure(db, A, BASE)
        measure(db, B, [*BASE[:5], "failed"])
    asked = ("--db", path, "compare", A, B, "--json", "--fail-if-worse", "0.1")
    assert run(*asked).code == 1
    assert run(*asked, "--where", "^path:005.wav").code == 0


def test_a_gate_of_many_needs_a_baseline(path: Any) -> None:
    """With one, each other is judged against it; without, it is an error of usage."""
    with DatabaseManager(path).initialize() as db:
        measure(db, A, BASE)
        measure(db, B, WORSE)
        measure(db, "best:1", [value + 0.1 * place for place, value in enumerate(BASE)])
    asked = ("--db", path, "compare", B, "best:1", "--fail-if-worse", "0.1")
    done = run(*asked, "--baseline", A)
    assert (done.code, done.err) == (
        1,
        "svoice:1.2 is worse than demucs:4.0 by more than 0.1 dB: worse by +0.41 to +0.62\n",
    )
    message = "a gate of three models or more needs a baseline: use --baseline"
    expected = usage("voices compare", "[OPTIONS] A B [C]...", message)
    assert run(*asked, A) == (2, "", expected)


@pytest.mark.parametrize("option", ["--fail-if-worse", "--require-not-worse"])
def test_a_margin_is_a_finite_number(path: Path, option: str) -> None:
    """A margin that a failed computation left as nan does not pass for a verdict."""
    with DatabaseManager(path).initialize():
        pass
    done = run("--db", path, "compare", A, B, option, "nan")
    assert (done.code, done.err) == (
        2,
        usage("voices compare", "[OPTIONS] A B [C]...", "a margin is a finite number, not nan"),
    )


@pytest.mark.parametrize("lost", [{}, {"Bob": None}], ids=["not made", "no value"])
def test_a_model_that_gives_up_on_a_stem_does_not_pass(
    db: DatabaseManager, lost: dict[str, None]
) -> None:
    """A stem that one model did not make, or has no value of, is counted beside the others."""
    measure(db, A, [{"Ada": 10.0 + n, "Bob": float(n)} for n in range(4)])
    measure(db, B, [{"Ada": 10.0 + n, **lost} for n in range(4)])
    found = db.compare(A, B)
    assert "recordings in which B lacks a stem's value that A has: 4" in found.notes
    assert (found.lost, found.coverage_b["done"], found.coverage_b["partly_finite"]) == (4, 0, 4)
    assert (found.coverage_a["done"], found.n, found.stems) == (4, 4, 4)
    back = db.compare(B, A)
    assert (back.lost, back.gained) == (0, 4)
    assert "recordings in which A lacks a stem's value that B has: 4" in back.notes
    reasons, _ = Gate(require_not_worse=0.1).judge(found)
    assert reasons == [f"{B} lacks values that {A} has, in 4 recordings"]
    assert Gate(require_not_worse=0.1, allow_lost=4).judge(found)[0] == []
    said = "recordings of which not all have values of as many stems: 4"
    assert said in db.leaderboard().notes
    assert said in db.leaderboard(common=True).notes
    assert said not in db.leaderboard(by=("model", "speaker")).notes


def test_nor_does_one_whose_stems_have_no_names(db: DatabaseManager) -> None:
    """What is left out of the comparison, since a stem has no value, is lost for the gate."""
    measure(db, A, [[10.0, 9.0], [8.0, 7.0], [6.0, 5.0]])
    measure(db, B, [[11.0, 9.5], [8.5, 8.0], [6.5, None]])
    found = db.compare(A, B)
    assert (found.n, found.lost, db.compare(B, A).gained) == (2, 1, 1)
    reasons, _ = Gate(fail_if_worse=1).judge(found)
    assert reasons == [f"{B} lacks values that {A} has, in 1 recording"]
