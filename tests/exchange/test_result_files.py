"""Files of results: what each format's rows are about, and which numbers of them are none."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest
from support.data_sets import (
    ASTEROID,
    DNSMOS,
    ESPNET,
    MUSEVAL,
    NISQA,
    RESULTS_SPEECHBRAIN,
    TDANET,
    VERSA,
    write_files,
)

from voices_peewee.errors import InputError, QueryError
from voices_peewee.exchange.result_files import Score, read_results
from voices_peewee.exchange.texts import Refused
from voices_peewee.records.roots import PathMap


class Found(NamedTuple):
    format: str
    scores: list[Score]
    notes: list[str]


def read(path: Path, form: str | None = None) -> Found:
    refused = Refused()
    found, notes = read_results([path], form, PathMap({}), refused)
    refused.end()
    ((form, scores),) = found.items()
    return Found(form, scores, notes)


def told(found: Found) -> list[tuple[Any, ...]]:
    return [(one.place, one.mixture, one.output, one.speaker, one.metrics) for one in found.scores]


@pytest.fixture
def write(tmp_path: Path) -> Any:
    return lambda name, text: write_files(tmp_path, {name: text}) / name


def test_asteroid(write: Any) -> None:
    """A mixture's means; the improvement that the file leaves out is told, and no empty value."""
    found = read(write("all_metrics.csv", ASTEROID))
    assert (found.format, found.notes) == ("asteroid", [])
    assert told(found) == [
        ("line 2", "/d/mix/a.wav", "", "", {
            "input_si_sdr": -0.5, "input_sdr": 0.25, "si_sdr": 17.0, "sdr": 17.25, "stoi": 0.8,
            "si_sdri": 17.5, "sdri": 17.0,
        }),
        ("line 3", "/d/mix/b.wav", "", "", {
            "input_si_sdr": 0.5, "input_sdr": 0.25, "si_sdr": 16.0, "stoi": 0.7, "si_sdri": 15.5,
        }),
    ]  # fmt: skip


def test_speechbrain_and_tdanet(write: Any) -> None:
    """Numbers are ids of SpeechBrain, names are TDANet's; means at the end are no rows."""
    found = read(write("test_results.csv", RESULTS_SPEECHBRAIN))
    assert found.format == "speechbrain"
    assert told(found) == [
        ("line 2", "0", "", "", {"sdr": 15.9, "sdri": 15.7, "si_snr": 15.4, "si_snri": 15.3}),
        ("line 3", "1", "", "", {"si_snr": -3.1, "si_snri": -2.9}),
    ]
    assert found.notes == ["1 without a value: sdr is nan", "1 without a value: sdri is nan"]
    found = read(write("metrics.csv", TDANET))
    assert found.format == "tdanet"
    assert [row[1] for row in told(found)] == ["a.wav", "b.wav"]


def test_dnsmos_and_nisqa(write: Any) -> None:
    """Rows are about estimates; what the networks say raw is left out."""
    found = read(write("dnsmos.csv", DNSMOS))
    assert found.format == "dnsmos"
    assert told(found)[1] == ("line 3", "", "/e/a_s1.wav", "", {
        "dnsmos_ovrl": 2.0, "dnsmos_sig": 2.8, "dnsmos_bak": 2.5, "dnsmos_p808": 2.4,
    })  # fmt: skip
    found = read(write("NISQA_results.csv", NISQA))
    assert (found.format, found.scores[0].impl) == ("nisqa", "v2")
    assert told(found) == [("line 2", "", "a_s1.wav", "", {
        "nisqa_mos": 1.2, "nisqa_noi": 1.6, "nisqa_dis": 1.8, "nisqa_col": 1.7, "nisqa_loud": 2.4,
    })]  # fmt: skip


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (TDANET.replace(",", ";").encode(), "its columns are separated by ';'; write commas"),
        (TDANET.replace(",", "\t").encode(), "its columns are separated by '\\t'; write commas"),
        (
            TDANET.replace("\n", "\r").encode(),
            "its lines end with CR alone; save it with LF or CRLF",
        ),
        (TDANET.encode("utf-16"), "it is not UTF-8 text"),
    ],
    ids=["semicolon", "tab", "CR", "UTF-16"],
)
def test_texts_of_spreadsheets(tmp_path: Path, data: bytes, reason: str) -> None:
    """What a spreadsheet saved otherwise is refused in the words of every import."""
    path = tmp_path / "scores.csv"
    path.write_bytes(data)
    with pytest.raises(InputError) as caught:
        read(path)
    assert str(caught.value) == f"cannot import {str(path)!r}: {reason}"


def test_a_spreadsheets_mark_and_line_ends(tmp_path: Path) -> None:
    """A mark of UTF-8 and Windows' line ends are read."""
    path = tmp_path / "scores.csv"
    path.write_bytes(TDANET.replace("\n", "\r\n").encode("utf-8-sig"))
    assert [row[1] for row in told(read(path))] == ["a.wav", "b.wav"]


def test_versa(write: Any) -> None:
    """A later line of a key counts; failures are no values, and counts make an error rate."""
    found = read(write("scores.txt", VERSA))
    assert found.format == "versa"
    assert told(found) == [
        ("line 1", "", "a_s1.wav", "", {"sdr": 16.1, "stoi": 0.8, "pesq": 1.9, "shine": 3.0}),
        ("line 2", "", "silent.wav", "", {}),
        ("line 3", "", "a_s2.wav", "", {"wer_whisper": 0.5}),
    ]
    assert found.notes == [
        "1 without a value: stoi is 1e-05, which says that it failed",
        "1 without a value: pesq is -7, which says that it failed",
    ]


def test_museval(write: Any) -> None:
    """A target's value is the median of its finite frames; one without any has none."""
    found = read(write("Song 1.json", MUSEVAL))
    assert found.format == "museval"
    assert told(found) == [
        ("target 1", "Song 1", "", "vocals", {"sdr": 9.5, "sir": 17.0}),
        ("target 2", "Song 1", "", "silence", {}),
    ]
    assert found.scores[0].impl == "museval 0.4.1, median of frames"


def test_espnet(tmp_path: Path) -> None:
    """The tables of metrics and speakers are joined; percent is divided in the whole file."""
    found = read(write_files(tmp_path, ESPNET))
    assert found.format == "espnet"
    values = {"input_si_snr": 0.1, "si_snr": 15.6, "stoi": 0.95, "si_snri": 15.5}
    assert told(found) == [
        ("SDR_spk2, line 1", "a", "", "spk2", {}),
        ("SI_SNR_spk1, line 1", "a", "/e/a_1.wav", "spk1", values),
        ("SI_SNR_spk1, line 2", "b", "/e/b_1.wav", "spk1", {"si_snr": 14.4, "stoi": 0.005}),
    ]
    assert found.notes == [
        "1 without a value: sdr is inf", "stoi: percent, divided by 100",
    ]  # fmt: skip


NONE = (
    "no results of a known format are in it; name it: versa, speechbrain, tdanet, asteroid, "
    "dnsmos, nisqa, espnet, museval"
)


@pytest.mark.parametrize(
    ("text", "form", "message"),
    [
        ("a,b\n1,2\n", None, NONE),
        ("{}\n", "museval", "it has no targets, as results of museval have"),
        ("a 1\n", "espnet", NONE),
        ("filename,OVRL,OVRL\na,1,2\n", None, "its header has the column 'OVRL' twice"),
    ],
    ids=["told", "targets", "folder", "twice"],
)  # fmt: skip
def test_what_cannot_be_read(write: Any, text: str, form: str | None, message: str) -> None:
    """A file that is not what it is called is refused whole."""
    path = write("x.txt", text)
    with pytest.raises(InputError) as caught:
        read(path, form)
    assert str(caught.value) == f"cannot import {str(path)!r}: {message}"


def test_folders(tmp_path: Path) -> None:
    """Of a folder what is known is read; a folder without results is refused."""
    write_files(tmp_path, {"a/all_metrics.csv": ASTEROID, "a/notes.txt": "hello", "b/x.csv": "a"})
    assert read(tmp_path).format == "asteroid"
    with pytest.raises(InputError) as caught:
        read(tmp_path / "b")
    assert str(caught.value) == f"cannot import {str(tmp_path / 'b')!r}: {NONE}"


def test_bad_lines(write: Any) -> None:
    """Every bad line is told with its number."""
    path = write("v.jsonl", '{"sdr": 1}\n{"key": "a@0.000-2.000", "sdr": 2}\nx\n')
    with pytest.raises(InputError) as caught:
        read(path, "versa")
    assert [str(problem) for problem in caught.value.problems] == [
        f"{str(path)!r}, line 1: it has no 'key'",
        f"{str(path)!r}, line 2: 'a@0.000-2.000' is a part of an estimate; score it whole",
        f"{str(path)!r}, line 3: it is not valid JSON at character 1",
    ]
    path = write("a.csv", ASTEROID.replace("0.7,", "good,"))
    with pytest.raises(InputError) as caught:
        read(path)
    assert str(caught.value) == f"{str(path)!r}, line 3, column 'stoi': 'good' is not a number"
    path = write("m.json", '{"targets": [{"name": "vocals"}]}')
    with pytest.raises(InputError) as caught:
        read(path)
    assert (
        str(caught.value) == f"{str(path)!r}, target 1: it has no name, or no frames with metrics"
    )


def test_no_such_format(write: Any) -> None:
    """A format that nobody knows names the near ones."""
    with pytest.raises(QueryError) as caught:
        read(write("a.csv", ASTEROID), "asteroids")
    assert str(caught.value) == "unknown format 'asteroids'; did you mean 'asteroid'?"


def test_percent_is_decided_file_by_file(tmp_path: Path) -> None:
    """STOI in percent in one file leaves the fractions of the others as they are."""
    lines = {
        f"{name}.jsonl": "".join(f'{{"key": "{name}{one}", "stoi": {one}}}\n' for one in values)
        for name, values in {"a": (93, 0.5), "b": (0.9, 0.8)}.items()
    }
    found = read(write_files(tmp_path, lines))
    assert [one.metrics["stoi"] for one in found.scores] == [0.93, 0.005, 0.9, 0.8]
    assert found.notes == ["stoi: percent, divided by 100"]


def test_a_rounding_error_is_no_percent(write: Any) -> None:
    """Of equal signals STOI may be a little more than 1."""
    found = read(write("v.jsonl", '{"key": "a", "stoi": 1.0000000000000002}\n'))
    assert (found.scores[0].metrics, found.notes) == ({"stoi": 1.0000000000000002}, [])


def test_the_index_of_pandas_is_no_metric(write: Any) -> None:
    """Not where it was written and read again, and has a name."""
    found = read(write("m.csv", "Unnamed: 0,si_sdr,mix_path\n0,3.5,/d/a.wav\n"), "asteroid")
    assert found.scores[0].metrics == {"si_sdr": 3.5}


def test_counts_that_are_no_numbers_make_no_rate(write: Any) -> None:
    """A count that is not finite leaves its rate without a value."""
    text = '{"key": "a", "x_wer_equal": 3, "x_wer_insert": NaN, "y_wer_equal": Infinity}\n'
    found = read(write("v.jsonl", text.replace("NaN}", 'NaN, "pesq": 2}')))
    assert found.notes == ["1 without a value: wer_x is nan"]


def test_an_empty_table_of_espnet(tmp_path: Path) -> None:
    """A metric that failed everywhere has an empty file; without outputs nothing is a level."""
    found = read(write_files(tmp_path, {"PESQ_WB_spk1": "", "SDR_spk1": "a 5\n", "wav_spk1": ""}))
    assert told(found) == [("SDR_spk1, line 1", "a", "", "spk1", {"sdr": 5.0})]


def test_levels_have_a_unit_of_their_own(tmp_path: Path) -> None:
    """The mixtures' STOI is no percent where the estimates' is; SIR of one source is none."""
    tables = {"STOI": "96", "SDR": "8", "SIR": "inf", "SAR": "8", "wav": "/e/a.wav"}
    before = {"STOI": "0.7", "SDR": "1", "SIR": "inf", "SAR": "1"}
    files = {f"scoring/{name}_spk1": f"a {value}\n" for name, value in tables.items()}
    files |= {f"before/{name}_spk1": f"a {value}\n" for name, value in before.items()}
    found = read(write_files(tmp_path, files))
    assert [one.metrics for one in found.scores] == [
        {"sdr": 8.0, "stoi": 0.96, "input_sdr": 1.0, "input_stoi": 0.7, "sdri": 7.0}
    ]
    assert found.notes == ["stoi: percent, divided by 100"]


def test_names_that_are_taken(write: Any) -> None:
    """A metric that has the name of what the record keeps beside metrics is left out, and told."""
    line = '{"key": "a", "nonfinite": 1, "Timed": 2, "higher_is_better": 1, "sdr": 3}\n'
    found = read(write("v.jsonl", line * 2))
    assert [one.metrics for one in found.scores] == [{"sdr": 3.0}]
    assert found.notes == [
        "2 left out: a metric cannot be named 'nonfinite'",
        "2 left out: a metric cannot be named 'timed'",
        "2 left out: a metric cannot be named 'higher_is_better'",
    ]


def test_one_metric_in_two_spellings(write: Any) -> None:
    """Two numbers of one metric in a line are refused: neither is taken in silence."""
    path = write("v.jsonl", '{"key": "a", "sdr": 1, "SDR": 1}\n{"key": "b", "sdr": 1, "SDR": 2}\n')
    with pytest.raises(InputError) as caught:
        read(path, "versa")
    assert str(caught.value) == f"{str(path)!r}, line 2, column 'SDR': 'sdr' is sdr too"
