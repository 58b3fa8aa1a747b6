"""How often a 95 % interval covers the truth, and how often a verdict is false, by simulation.

Experiments are metrics of one record: m0, m1, … in ``additional_metrics``, so that each is one
question through the public interface.
"""

from __future__ import annotations

import csv
import random
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from support.measured import START

from voices_peewee import DatabaseManager, ModelPerformance, ProcessedFile, ProcessingHistory
from voices_peewee.schema.models import Speaker

EFFECT = 0.5  # dB that B is better by
Draw = Callable[[random.Random], float]
_RESIDUALS = Path(__file__).parent.parent / "support" / "residuals.csv"
# The stems of a recording, each of a speaker (None: unknown), by recording.
Layout = tuple[tuple[int | None, ...], ...]


class Design(NamedTuple):
    """Whose stems there are, and how differences are drawn for all of them."""

    layout: Callable[[random.Random], Layout]
    draw: Callable[[random.Random, Layout], list[list[float]]]
    unit: str = "recording"


def mixtures(n: int, stems: int = 1) -> Callable[[random.Random], Layout]:
    return lambda _: tuple((None,) * stems for _ in range(n))


def speakers(*counts: int) -> Callable[[random.Random], Layout]:
    """So many recordings of each speaker."""
    return lambda _: tuple((place,) for place, n in enumerate(counts) for _ in range(n))


def crossed(n_speakers: int, n: int) -> Callable[[random.Random], Layout]:
    """Mixtures of two speakers each, all of whom appear."""

    def layout(generator: random.Random) -> Layout:
        pairs = [(place, (place + 1) % n_speakers) for place in range(n_speakers)][:n]
        pairs += [tuple(generator.sample(range(n_speakers), 2)) for _ in range(n - len(pairs))]
        return tuple(pairs)

    return layout


def independent(draw: Draw) -> Callable[[random.Random, Layout], list[list[float]]]:
    return lambda generator, layout: [[draw(generator) for _ in stems] for stems in layout]


def normal(generator: random.Random) -> float:
    return generator.gauss(0, 1)


def student(generator: random.Random) -> float:
    """Student's t of 3 degrees of freedom: heavy tails."""
    squares = sum(generator.gauss(0, 1) ** 2 for _ in range(3))
    return generator.gauss(0, 1) / (squares / 3) ** 0.5


def residuals() -> list[list[float]]:
    """Differences of two methods on real recordings, by recording."""
    found: dict[str, list[float]] = defaultdict(list)
    with _RESIDUALS.open(newline="") as file:
        for row in csv.DictReader(file):
            found[row["recording"]].append(float(row["residual"]))
    mean = sum(map(sum, found.values())) / sum(map(len, found.values()))
    return [[value - mean for value in stems] for stems in found.values()]


REAL = residuals()


def real(generator: random.Random, layout: Layout) -> list[list[float]]:
    """Draw whole recordings."""
    drawn = [generator.choice(REAL) for _ in layout]
    return [list(stems[: len(own)]) for stems, own in zip(drawn, layout, strict=True)]


def shared(
    speaker: float, recording: float, rest: float
) -> Callable[[random.Random, Layout], list[list[float]]]:
    """Draw what a speaker, a recording and a stem add, of these deviations."""

    def draw(generator: random.Random, layout: Layout) -> list[list[float]]:
        of_speaker: dict[int | None, float] = {}
        for stems in layout:
            for one in stems:
                of_speaker.setdefault(one, generator.gauss(0, speaker))
        rows = []
        for stems in layout:
            own = generator.gauss(0, recording)
            rows.append([of_speaker[one] + own + generator.gauss(0, rest) for one in stems])
        return rows

    return draw


STEMS = shared(0.0, 0.8, 0.6)  # an intraclass correlation of 0.64, which real runs have
VOICES = shared(0.55, 0.0, 0.84)  # 0.3 by speaker
CROSSED = shared(0.5, 0.7, 0.5)
DESIGNS = {
    **{f"normal {n}": Design(mixtures(n), independent(normal)) for n in (8, 15, 40)},
    **{f"t3 {n}": Design(mixtures(n), independent(student)) for n in (8, 15, 40)},
    **{f"real {n}": Design(mixtures(n), real) for n in (8, 15, 40)},
    **{f"2 stems, {n}": Design(mixtures(n, 2), STEMS) for n in (8, 20)},
    **{f"3 stems, {n}": Design(mixtures(n, 3), STEMS) for n in (8, 20)},
    **{f"{n} speakers": Design(speakers(*[5] * n), VOICES, "speaker") for n in (5, 8, 10, 20)},
    "5 speakers, unbalanced": Design(speakers(12, 6, 3, 2, 2), VOICES, "speaker"),
    "8 speakers, unbalanced": Design(speakers(14, 8, 5, 4, 3, 2, 2, 2), VOICES, "speaker"),
    "10 speakers, unbalanced": Design(speakers(14, 8, 5, 4, 3, 2, 2, 2, 1, 1), VOICES, "speaker"),
    "20 speakers, unbalanced": Design(
        speakers(*[12, 8, 5, 4, 3] + [2] * 10 + [1] * 5), VOICES, "speaker"
    ),
    "8 speakers in 30 mixtures": Design(crossed(8, 30), CROSSED, "speaker"),
    "6 speakers in 40 mixtures": Design(crossed(6, 40), CROSSED, "speaker"),
    "8 like speakers in 30 mixtures": Design(crossed(8, 30), shared(0.05, 0.7, 0.5), "speaker"),
}
ONCE = (
    *("normal 8", "t3 15", "real 8", "2 stems, 8"),
    *("3 stems, 8", "5 speakers", "8 speakers, unbalanced", "8 speakers in 30 mixtures"),
)


def experiments(
    db: DatabaseManager, design: Design, count: int, effect: float, seed: int = 1
) -> Iterator[tuple[float, float, bool]]:
    """Yield the interval of each experiment, and whether a model was said to be better."""
    generator = random.Random(seed)
    layout = design.layout(generator)
    drawn = [design.draw(generator, layout) for _ in range(count)]

    def of_b(place: int, stem: int) -> dict[str, float]:
        named = zip(_names(count), drawn, strict=True)
        return {name: effect + rows[place][stem] for name, rows in named}

    def of_a(_: int, __: int) -> dict[str, float]:
        return dict.fromkeys(_names(count), 0.0)

    write(db, layout, {"a:1": of_a, "b:1": of_b})
    for name in _names(count):
        found = db.compare("a:1", "b:1", metric=name, unit=design.unit, higher_is_better=True)
        assert found.low is not None
        assert found.high is not None
        yield found.low, found.high, found.better is not None


def _names(count: int) -> list[str]:
    return [f"m{place}" for place in range(count)]


def write(
    db: DatabaseManager,
    layout: Layout,
    values: dict[str, Callable[[int, int], dict[str, float]]],
) -> None:
    """Write recordings with their stems, and what each model measured of them."""
    known = {one for stems in layout for one in stems if one is not None}
    with db.atomic():
        for one in sorted(known):
            db.add(Speaker(id=one + 1, name=f"speaker {one}"))
        for place, stems in enumerate(layout):
            source = db.add(ProcessedFile(filename=f"{place}.wav", original_path=f"/{place}.wav"))
            for model, value in values.items():
                for stem, one in enumerate(stems):
                    _write(db, source, model, f"{place}", one, value(place, stem))


def _write(
    db: DatabaseManager,
    source: ProcessedFile,
    model: str,
    run: str,
    speaker: int | None,
    metrics: dict[str, float],
) -> None:
    name, version = model.split(":")
    stem = ProcessedFile(
        filename="stem.wav",
        original_path=source.original_path,
        processed_path=f"/{model}/{run}.wav",
        recording=source,
        speaker=None if speaker is None else speaker + 1,
    )
    row = db.add(
        ProcessingHistory(
            processed_file=db.add(stem),
            run_id=f"{model} {run}",
            operation_type="separation",
            model_type=name,
            model_version=version,
            start_time=START,
            end_time=START,
            success=True,
        )
    )
    db.add(
        ModelPerformance(
            processing_history=row,
            model_type=name,
            model_version=version,
            additional_metrics=metrics,
        )
    )


@pytest.mark.once
@pytest.mark.parametrize("name", ONCE)
def test_an_interval_covers_the_truth(path: Path, name: str) -> None:
    """Of 200 experiments at least .90 cover it; without a difference at most .11 find one."""
    with DatabaseManager(path).initialize() as db:
        found = list(experiments(db, DESIGNS[name], 200, EFFECT))
    covered = sum(low <= EFFECT <= high for low, high, _ in found) / 200
    assert covered >= 0.90
    # The interval that leaves the truth out would have found a difference that is none.
    assert 1 - covered <= 0.11


@pytest.mark.soak
@pytest.mark.parametrize("name", DESIGNS)
def test_an_interval_covers_the_truth_at_length(path: Path, name: str) -> None:
    """Of 1,000 experiments .93 cover it and at most .07 are false, within 2 standard errors."""
    with DatabaseManager(path).initialize() as db:
        found = list(experiments(db, DESIGNS[name], 1_000, effect=0.0, seed=2))
    covered = sum(low <= 0 <= high for low, high, _ in found) / 1_000
    false = sum(clear for _, _, clear in found) / 1_000
    print(f"{name}: {covered:.3f} {false:.3f}")  # noqa: T201 - the table of the decision
    error = 2 * (0.93 * 0.07 / 1_000) ** 0.5
    assert covered >= 0.93 - error
    assert false <= 0.07 + error


@pytest.mark.soak
def test_ten_equal_models_are_not_told_apart(path: Path) -> None:
    """Of 1,000 experiments with ten equal models at most .07 tell any pair apart."""
    count, models = 1_000, [f"m{place}:1" for place in range(10)]
    generator = random.Random(5)
    layout = mixtures(25)(generator)
    drawn = {
        model: [[generator.gauss(0, 1) for _ in layout] for _ in range(count)] for model in models
    }

    def of(model: str) -> Callable[[int, int], dict[str, float]]:
        return lambda place, _: {
            name: own[place] for name, own in zip(_names(count), drawn[model], strict=True)
        }

    with DatabaseManager(path).initialize() as db:
        write(db, layout, {model: of(model) for model in models})
        told = sum(
            any(
                pair.better is not None
                for pair in db.compare(*models, metric=name, higher_is_better=True).pairs.values()
            )
            for name in _names(count)
        )
    print(f"ten equal models: {told / count:.3f}")  # noqa: T201 - the table of the decision
    assert told / count <= 0.07 + 2 * (0.07 * 0.93 / count) ** 0.5
