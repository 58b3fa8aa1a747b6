"""Blind listening tests: the page, its votes, and what they come to."""

from __future__ import annotations

import json
import math
import re
import wave
from array import array
from pathlib import Path
from typing import Any

import pytest
from support.browser import barriers, needs_axe, needs_browser, opened
from support.cli_tools import run
from support.measured import recording, speaker

from voices_peewee import DatabaseManager
from voices_peewee.errors import ExportError, InputError, QueryError
from voices_peewee.schema.models import ListeningTest, ListeningVote

HOSTILE = "</script><img src=x onerror=alert(1)>"
OTHER = f"{HOSTILE}:2"


def tone(
    path: Path, pitch: float, *, seconds: float = 1.2, rate: int = 8000, level: int = 9000
) -> Path:
    """Write a tone as WAV."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count = round(seconds * rate)
    samples = array("h", (round(level * math.sin(6.2832 * pitch * k / rate)) for k in range(count)))
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.tobytes())
    return path


def stem_of(folder: Path, model: str, place: int) -> Path:
    return folder / f"{sum(map(ord, model))}_{place}.wav"


def separate(db: DatabaseManager, folder: Path, model: str, place: int, **sound: Any) -> None:
    """Record a run of a model with one stem of Ada."""
    mixture = folder / f"mix_{place}.wav"
    if not mixture.exists():
        tone(mixture, 300 + place)
        reference = tone(folder / f"ref_{place}.wav", 310 + place)
        recording(db, str(mixture), metadata={"references": {"Ada": str(reference)}})
    name, version = model.rsplit(":", 1)
    stem = tone(stem_of(folder, model, place), 320 + place + len(model), **sound)
    with db.track(mixture, "separation", model_type=name, model_version=version) as one:
        one.output(stem, speaker=speaker(db, "Ada"), si_snri=5.0 + len(model) + place / 10)


@pytest.fixture
def heard(db: DatabaseManager, tmp_path: Path) -> DatabaseManager:
    """A record of four recordings that two models separated."""
    for place in range(4):
        separate(db, tmp_path, "a:1", place)
        separate(db, tmp_path, OTHER, place)
    return db


def page_of(path: Path) -> tuple[dict[str, Any], str]:
    """Return the plan that a page holds, and all of its text."""
    text = path.read_text("utf-8")
    plan = text.split('<script id="plan" type="application/json">')[1].split("</script>")[0]
    return json.loads(plan), text


def votes(page: Path, listener: str, choose: Any, *, at: str = "2026-11-28T23:00:00.000Z") -> str:
    """Return the votes of a listener as a page saves them; ``choose`` takes A's and B's token."""
    plan, _ = page_of(page)
    rows = []
    for place, trial in enumerate(plan["trials"], 1):
        a, b = trial["stems"]
        row = {"table": "listening_votes", "test": plan["test"], "listener": listener}
        row |= {"session": f"of {listener}", "trial": trial["id"], "position": place}
        row |= {"a": a, "b": b, "choice": choose(a, b), "voted_at": at}
        rows.append(row)
    end = {"table": "end", "rows": {"listening_votes": len(rows)}}
    return "".join(json.dumps(row) + "\n" for row in [*rows, end])


def nobody(*_: str) -> None:
    """Prefer neither."""


@pytest.mark.sqlite("what another program may write into a column of SQLite")
def test_a_speaker_whose_name_is_no_text(heard: DatabaseManager, tmp_path: Path) -> None:
    """Stems of a speaker whose name another program wrote as bytes are heard all the same."""
    heard.execute_raw_query("UPDATE speakers SET name = x'00ff'", write=True)
    heard.listen("a:1", OTHER, path=tmp_path / "page.html", trials=2)
    assert len(page_of(tmp_path / "page.html")[0]["trials"]) >= 2


def liking(db: DatabaseManager, model: int) -> Any:
    """Return who always prefers the model of that place, and knows a reference."""
    (test,) = db.query(ListeningTest)
    good = {token for token, stem in test.plan["stems"].items() if stem[2] == model}
    good |= set(test.plan["right"].values())
    return lambda a, b: "a" if a in good else "b" if b in good else None


def test_the_page_tells_no_model_and_is_the_same_twice(
    heard: DatabaseManager, tmp_path: Path
) -> None:
    """No name of a model or a file stands in a page; one seed makes one page and one test."""
    pages = []
    for name in ("one.html", "two.html"):
        done = heard.listen("a:1", OTHER, path=tmp_path / name, seed=7, question=HOSTILE)
        pages.append((tmp_path / name).read_text("utf-8"))
    assert pages[0] == pages[1]
    assert [word for word in ("mix_", "a:1", "<img", "http:", "https:") if word in pages[0]] == []
    assert [test.name for test in heard.query(ListeningTest)] == [done.test]
    plan, _ = page_of(tmp_path / "one.html")
    assert plan.keys() == {"test", "trials", "sample"}
    assert all(trial.keys() == {"id", "stems", "x"} for trial in plan["trials"])


def test_the_source_of_a_page_tells_no_kind_of_trial(
    heard: DatabaseManager, tmp_path: Path
) -> None:
    """Of three models, too, trials with a known answer and repeats look like all others."""
    for place in range(4):
        separate(heard, tmp_path, "c:3", place)
    page = tmp_path / "t.html"
    done = heard.listen("a:1", OTHER, "c:3", path=page, seed=3, catch=2, repeat=2)
    plan, text = page_of(page)
    assert len(plan["trials"]) == len(done.trials) == 8
    tokens = [token for trial in plan["trials"] for token in (*trial["stems"], trial["x"])]
    sounds = re.findall(r'<script id="s-(\w+)" type="text/plain">(.*?)</script>', text)
    assert {token for token, _ in sounds} == set(tokens)
    assert len(tokens) == len(set(tokens)) == len({data for _, data in sounds}) == 24
    (test,) = heard.query(ListeningTest)
    pairs = {
        tuple(sorted(test.plan["stems"][token][2] for token in trial["stems"]))
        for trial in plan["trials"]
        if test.plan["trials"][trial["id"]] == "pair"
    }
    assert len(pairs) == 3
    assert len(test.plan["right"]) == 2


def test_a_test_of_another_program_has_no_pairs(db: DatabaseManager) -> None:
    """A plan that says nothing is a result without pairs, and what is no vote on it is none."""
    test = db.add(ListeningTest(name="x", question="?", plan={}))
    for trial, kind in (("t", "pair"), ("u", "wrong")):
        vote = {"session": "s", "trial": trial, "kind": kind, "position": 1}
        db.add(ListeningVote(test=test, listener="Eve", details={"a": "1", "b": "2"}, **vote))
    (result,) = db.listening_results()
    said = (
        "1 of 1 sessions complete; no preference in 0 of 0",
        "side A was chosen in 0 of the 0 others",
    )
    assert (result.pairs, result.notes) == ((), said)
    assert str(result).startswith("test x: ?")


def test_a_comment_that_comes_after_the_last_vote_is_kept(
    heard: DatabaseManager, tmp_path: Path
) -> None:
    """Votes that were imported are saved again with a comment; the first file takes none away."""
    page = tmp_path / "t.html"
    heard.listen("a:1", OTHER, path=page)
    plain = votes(page, "Eve", nobody)
    (tmp_path / "v1").write_text(plain, "utf-8")
    (tmp_path / "v2").write_text(plain.replace('"choice"', '"comment": "hum", "choice"'), "utf-8")
    heard.import_votes(tmp_path / "v1")
    count = heard.query(ListeningVote).count()
    assert heard.import_votes(tmp_path / "v2") == {"added": 0, "updated": count, "same": 0}
    assert heard.import_votes(tmp_path / "v1") == {"added": 0, "updated": 0, "same": count}
    assert {vote.details["comment"] for vote in heard.query(ListeningVote)} == {"hum"}


def test_a_spoilt_stem_takes_no_other_away(heard: DatabaseManager, tmp_path: Path) -> None:
    """Of a plan that another program spoilt in one place the votes on other stems count."""
    page = tmp_path / "t.html"
    heard.listen("a:1", OTHER, path=page)
    (tmp_path / "v").write_text(votes(page, "Eve", liking(heard, 1)), "utf-8")
    heard.import_votes(tmp_path / "v")
    (test,) = heard.query(ListeningTest)
    heard.update(test, plan={**test.plan, "stems": {**test.plan["stems"], "x": None}})
    ((pair,),) = [result.pairs for result in heard.listening_results()]
    assert (pair.votes, pair.share) == (4, 1.0)


def test_votes_come_in_once_and_say_what_is_preferred(
    heard: DatabaseManager, tmp_path: Path, other_path: Any
) -> None:
    """Votes are added once, also by an export; results and compare agree; a run takes its own."""
    page = tmp_path / "t.html"
    heard.listen("a:1", OTHER, path=page, catch=2, repeat=1)
    (tmp_path / "v1").write_text(votes(page, "Eve", liking(heard, 1)), "utf-8")
    (tmp_path / "v2").write_text(votes(page, "Bob", nobody), "utf-8")
    for name in ("v1", "v2"):
        assert heard.import_votes(tmp_path / name) == {"added": 7, "updated": 0, "same": 0}
        assert heard.import_votes(tmp_path / name) == {"added": 0, "updated": 0, "same": 7}
    (result,) = heard.listening_results()
    (pair,) = result.pairs
    assert (pair.votes, pair.listeners, pair.recordings, pair.share) == (4, 1, 4, 1.0)
    assert "left out for missing half of the trials that have an answer: Bob" in result.notes
    assert "the same vote again in 1 of 1 repeats" in result.notes
    found = heard.compare("a:1", OTHER, metric="preference")
    assert (found.n, found.mean_difference, found.metric) == (4, 1.0, "preference")
    assert found.notes == ("votes: 4, listeners: 1",)
    assert heard.compare(OTHER, "a:1", metric="preference").mean_difference == -1.0
    heard.export(tmp_path / "all.jsonl")
    later = votes(page, "Eve", nobody, at="2026-11-29T00:00:00Z")
    (tmp_path / "v3").write_text(later, "utf-8")
    assert heard.import_votes(tmp_path / "v3") == {"added": 0, "updated": 7, "same": 0}
    kept = heard.query(ListeningVote).count()
    heard.delete(heard.history(str(tmp_path / "mix_0.wav"))[0])
    assert heard.query(ListeningVote).count() < kept
    heard.close()
    with DatabaseManager(other_path).initialize() as other:
        recording(other, "/before.wav")  # so that ids differ
        for _ in range(2):
            other.import_records(tmp_path / "all.jsonl")
        assert [str(one) for one in other.listening_results()] == [str(result)]
        assert other.import_votes(tmp_path / "v1")["same"] == 7
        assert other.check() == []


def test_the_means_of_votes_are_those_of_their_difference(
    heard: DatabaseManager, tmp_path: Path
) -> None:
    """Where recordings have more and fewer votes, A's share and B's differ by what is said."""
    page = tmp_path / "t.html"
    heard.listen("a:1", OTHER, path=page, catch=0, repeat=0)
    rows = votes(page, "Bob", liking(heard, 0)).splitlines(keepends=True)
    (tmp_path / "half").write_text("".join(rows[:1]) + rows[-1].replace("4", "1"), "utf-8")
    (tmp_path / "all").write_text(votes(page, "Eve", liking(heard, 1)), "utf-8")
    for name in ("half", "all"):
        heard.import_votes(tmp_path / name)
    found = heard.compare("a:1", OTHER, metric="preference")
    assert (found.mean_a, found.mean_b) == (pytest.approx(0.2), pytest.approx(0.8))
    assert found.mean_difference == pytest.approx(0.6)


BAD = [
    (r'\{"table": "end".*', "", "cannot import {0!r}: it was cut off: its last line does not say"),
    (r"(?s).*", "hello", "cannot import {0!r}: it holds no votes, or not all of them"),
    ('"test": "', '"test": "x', "{0!r}, line 1: there is no listening test 'x{1}' in this record"),
    ('"trial": "', '"trial": "x', "{0!r}, line 1: test {1} has no trial 'x{2}'"),
    ('"choice": null', '"choice": "c"', "{0!r}, line 1: a choice is a, b or null, not 'c'"),
    ('"Eve"', '" "', "{0!r}, line 1: a vote needs a listener"),
    ('"a": "', '"a": "x', "{0!r}, line 1: no stem of the test is called 'x{3}'"),
    ('"session"', '"x"', "{0!r}, line 1: it has no 'session'"),
    ("^", "", "{0!r}, line 1: the run {4} that made the stem is no longer here"),
]


def test_bad_votes_are_one_sentence(heard: DatabaseManager, tmp_path: Path) -> None:
    """What cannot be taken is told with its line, and nothing is written."""
    page, file = tmp_path / "t.html", tmp_path / "v.jsonl"
    done = heard.listen("a:1", OTHER, path=page)
    good = votes(page, "Eve", nobody)
    first = json.loads(good.partition("\n")[0])
    (test,) = heard.query(ListeningTest)
    run_id = test.plan["stems"][first["a"]][0]
    for old, new, said in BAD:
        if "{4}" in said:
            heard.delete_run(run_id)
        file.write_text(re.sub(old, new, good, count=1), "utf-8")
        with pytest.raises(InputError) as caught:
            heard.import_votes(file)
        told = said.format(str(file), done.test, first["trial"], first["a"], run_id)
        assert str(caught.value).startswith(told)
        assert heard.query(ListeningVote).count() == 0


def test_what_cannot_be_heard_is_told(db: DatabaseManager, tmp_path: Path) -> None:
    """Each stem that is left out has one sentence, and the page has the rest."""
    for place in range(7):
        separate(db, tmp_path, "a:1", place)
    sounds = [{}, {"rate": 16000}, {"level": 0}, {"seconds": 0.1}, {}, {}]
    for place, sound in enumerate(sounds):
        separate(db, tmp_path, "b:2", place, **sound)
    gone, changed = stem_of(tmp_path, "b:2", 4), stem_of(tmp_path, "b:2", 5)
    gone.unlink()
    tone(changed, 700)
    for reference in tmp_path.glob("ref_*.wav"):
        reference.unlink()
    done = db.listen("a:1", "b:2", path=tmp_path / "t.html", catch=2, repeat=0)
    assert done.trials == ("mix_0.wav · Ada",)
    *told, last = done.left_out
    said = "\n".join(told)
    assert "the models' stems differ: 16000 Hz with 1 channels and 8000 Hz with 1 channels" in said
    assert "it is silent where the others are heard" in said
    assert "it is shorter than 0.4 s, or another with it is" in said
    assert f"cannot read {str(gone)!r}: " in said
    assert f"{str(changed)!r}: its content is another than that of the run" in said
    assert "mix_6.wav · Ada: no stem of b:2, or several that no speaker tells apart" in said
    assert last == "0 of 2 trials with a known answer: no more voices have references"


def test_a_test_that_cannot_be_is_refused(heard: DatabaseManager, tmp_path: Path) -> None:
    """One model, nothing to hear, another file's name, and a page that is too large."""
    page, zoe = tmp_path / "t.html", heard.create_speaker("Zoe")
    less = "fewer trials, fewer seconds, or the codec opus take less"
    for models, options, kind, said in (
        (["a:1"], {}, QueryError, "a listening test is of two to six models, not 1"),
        (["a:1", OTHER], {"beside": "x"}, QueryError, "unknown sound 'x'; use .*"),
        (["a:1", OTHER], {"codec": "x"}, QueryError, "unknown codec 'x'; use flac, opus"),
        (
            ["a:1", OTHER],
            {"path": tmp_path / "t.db"},
            ExportError,
            ".*: a listening test ends in .*",
        ),
        (["a:1", OTHER], {"max_size": 9}, ExportError, rf".* \d\.\d MB, of 9e-06 at most: {less}"),
        (
            ["a:1", OTHER],
            {"speaker": zoe},
            QueryError,
            "there is nothing to listen to: no recording has stems of all of them",
        ),
    ):
        with pytest.raises(kind) as caught:
            heard.listen(*models, **{"path": page, "overwrite": True, **options})
        assert re.fullmatch(said, str(caught.value))
    with pytest.raises(QueryError) as none:
        heard.compare("a:1", OTHER, metric="preference")
    said = f"no listener has compared a:1 and {OTHER}; 'voices listen' makes a test"
    assert str(none.value) == said
    assert heard.query(ListeningTest).count() == 0
    assert not page.exists()


def test_the_command(heard: DatabaseManager, path: Any, tmp_path: Path) -> None:
    """Page, votes and results by the command line."""
    page, file = tmp_path / "t.html", tmp_path / "v.jsonl"
    status, out, err = run("--db", path, "listen", "a:1", OTHER, "-o", page, "--seed", 5)
    (test,) = [test.name for test in heard.query(ListeningTest)]
    assert (status, out, err) == (0, f"{page}\n", f"test {test}: 4 trials, seed 5\n")
    file.write_text(votes(page, "Eve", liking(heard, 0)), "utf-8")
    said = f"votes of {str(file)!r}: 4 added\n"
    assert run("--db", path, "listen", "--import", file) == (0, "", said)
    status, out, err = run("--db", path, "listen", "--results")
    assert (status, err) == (0, "")
    assert out.startswith(f"test {test}: Which one is separated better?\n")
    assert json.loads(run("--db", path, "listen", "--results", "--json")[1])[0]["test"] == test
    status, out, err = run("--db", path, "listen", "a:1", OTHER, "--dry-run")
    assert (status, len(out.splitlines())) == (0, 4)
    assert run("--db", path, "listen", "a:1", "--results")[0] == 2


def begin(page: Any) -> None:
    """Start a test, and wait for its first sounds."""
    page.fill("#listener", "Eve")
    page.select_option("#device", "headphones")
    page.click("#start")
    page.locator("#question:focus").wait_for()


def hear(page: Any, choice: str) -> None:
    """Listen to both long enough, and vote, all by keys."""
    for key in "ab":
        page.keyboard.press(key)
        page.locator(f"#h-{key}.heard").wait_for()
    page.keyboard.press(choice)
    page.keyboard.press("Enter")


@pytest.mark.once
@needs_browser
def test_the_keyboard_alone_goes_through_a_test(heard: DatabaseManager, tmp_path: Path) -> None:
    """From Start to the saved file by keys, with nothing asked of the network; once each."""
    path, said = tmp_path / "t.html", list[str]()
    done = heard.listen("a:1", OTHER, path=path, seed=1, trials=2, catch=1, repeat=1)
    with opened(path, said, viewport={"width": 400, "height": 900}) as page:
        for key in ("Tab", "Ève", "Tab", "h", "Tab", "Tab", "Enter"):
            page.keyboard.press(key) if key in ("Tab", "Enter", "h") else page.keyboard.type(key)
        for place in range(4):
            page.locator("#hint:not(:empty)").wait_for()  # its sounds are there
            assert page.locator("#where").inner_text() == f"Comparison {place + 1} of 4"
            page.keyboard.press("1")  # too early
            hear(page, "123"[place % 3])
        page.locator("#done:focus").wait_for()
        assert page.locator("#done").inner_text() == "All done. Thank you!"
        page.keyboard.press("Tab")
        page.keyboard.press("Tab")
        with page.expect_download() as download:
            page.keyboard.press("Enter")
        download.value.save_as(tmp_path / "votes.jsonl")
    assert said == [path.as_uri()]
    assert heard.import_votes(tmp_path / "votes.jsonl") == {"added": 4, "updated": 0, "same": 0}
    (result,) = heard.listening_results()
    assert (result.test, result.pairs[0].votes) == (done.test, 2)
    assert result.notes[0].startswith("1 of 1 sessions complete; no preference in ")
    assert result.notes[-1] == "one listener: this is what 'Ève' prefers"


_EAR = """
const Real = AudioContext, connect = AudioNode.prototype.connect;
const decode = BaseAudioContext.prototype.decodeAudioData;
const ear = `registerProcessor("ear", class extends AudioWorkletProcessor {
  process([[one]]) { if (one) this.port.postMessage(one.slice()); return true; } });`;
window.heard = []; window.decoded = [];
window.AudioContext = class extends Real {
  constructor(how) {
    super(how);
    this.audioWorklet.addModule("data:text/javascript," + encodeURIComponent(ear))
      .then(() => {
        window.ear = new AudioWorkletNode(this, "ear");
        window.ear.port.onmessage = e => heard.push(e.data);
        connect.call(window.ear, this.destination); // silent, else it is not asked for sound
      });
  }
};
AudioNode.prototype.connect = function (to, ...rest) {
  if (to instanceof AudioDestinationNode && window.ear) connect.call(this, window.ear);
  return connect.call(this, to, ...rest);
};
BaseAudioContext.prototype.decodeAudioData = function (data, ok, no) {
  return decode.call(this, data, one => { decoded.push(one); ok(one); }, no);
};
"""


@pytest.mark.once
@needs_browser
def test_switching_has_no_gap(heard: DatabaseManager, tmp_path: Path) -> None:
    """What comes out is A or B at the same place, but for 10 ms after each switch."""
    import numpy as np

    path, keys = tmp_path / "t.html", "babab"
    heard.listen("a:1", OTHER, path=path, beside="nothing", trials=1, catch=0, repeat=0)
    with opened(path, [], bypass_csp=True, script=_EAR) as page:
        begin(page)
        page.wait_for_timeout(500)
        for key in f"a{keys}":
            page.keyboard.press(key)
            page.wait_for_timeout(450)
        rate = page.evaluate("decoded[0].sampleRate")
        every = "[...decoded.slice(0, 2).map(one => one.getChannelData(0)), ...heard]"
        found = json.loads(page.evaluate(f"JSON.stringify({every}.map(one => [...one]))"))
    stems = [np.array(stem)[: min(map(len, found[:2]))] for stem in found[:2]]
    played = np.concatenate(found[2:])
    loud = np.flatnonzero(np.abs(played) > 1e-4)
    places = np.arange(loud[0], loud[-1] - rate // 50)
    beginning = places[:2000]
    unlike = {}  # A is the stem that was decoded first or second
    for stem in stems:
        silent = np.flatnonzero(np.abs(stem) > 1e-4)[0]
        for offset in range(loud[0] - silent - 64, loud[0] - silent + 64):
            at = stem[(beginning - offset) % len(stem)]
            unlike[offset] = min(unlike.get(offset, np.inf), np.abs(played[beginning] - at).max())
    offset = min(unlike, key=unlike.__getitem__)
    should = [stem[(places - offset) % len(stem)] for stem in stems]
    off = np.min([np.abs(played[places] - one) for one in should], axis=0) > 2e-4
    windows = np.split(
        np.flatnonzero(off), np.flatnonzero(np.diff(np.flatnonzero(off)) > rate / 50) + 1
    )
    assert len(places) > 2 * rate
    assert 1 <= len(windows) <= len(keys)
    assert max(window[-1] - window[0] for window in windows) <= rate / 100


@pytest.mark.once
@needs_browser
@needs_axe
def test_nobody_is_kept_out(heard: DatabaseManager, tmp_path: Path) -> None:
    """axe-core has no serious finding on any of the three screens, in light and dark."""
    path = tmp_path / "t.html"
    heard.listen("a:1", OTHER, path=path, trials=1, catch=0, repeat=0)
    with opened(path, [], bypass_csp=True) as page:
        for step in (None, begin, lambda page: page.click("#pause")):
            if step is not None:
                step(page)
            for scheme in ("light", "dark"):
                page.emulate_media(color_scheme=scheme)
                assert barriers(page) == []


@pytest.mark.once
@needs_browser
def test_a_page_that_is_loaded_again_goes_on(heard: DatabaseManager, tmp_path: Path) -> None:
    """Votes are kept in the browser; Back shows the old one, and a new one says so."""
    path, said = tmp_path / "t.html", list[str]()
    heard.listen("a:1", OTHER, path=path)
    with opened(path, said) as page:
        begin(page)
        hear(page, "1")
        page.reload()
        begin(page)
        assert page.locator("#where").inner_text() == "Comparison 2 of 4"
        page.click("#back")
        page.locator("[name=vote][value=a]:checked").wait_for()
        page.locator("#question:focus").wait_for()
        hear(page, "3")
        page.click("#pause")
        vote, end = map(json.loads, page.locator("#text").input_value().splitlines())
    assert (vote["choice"], vote["revised"], vote["listener"]) == ("b", 1, "Eve")
    assert end == {"table": "end", "rows": {"listening_votes": 1}}
    assert set(said) == {path.as_uri()}


@pytest.mark.once
@needs_browser
def test_without_a_store_the_saved_file_goes_on(heard: DatabaseManager, tmp_path: Path) -> None:
    """Where a browser keeps nothing the page says so, and the file of the votes so far goes on."""
    path, script = tmp_path / "t.html", "get() { throw new Error('no store'); }"
    heard.listen("a:1", OTHER, path=path)
    script = f"Object.defineProperty(window, 'localStorage', {{{script}}});"
    with opened(path, [], script) as page:
        assert page.locator("#alert").inner_text().startswith("This browser keeps nothing")
        begin(page)
        hear(page, "1")
        page.click("#pause")
        with page.expect_download() as download:
            page.click("#save")
        download.value.save_as(tmp_path / "votes.jsonl")
        page.reload()
        page.click("summary >> nth=0")
        page.set_input_files("#load", tmp_path / "votes.jsonl")
        begin(page)
        assert page.locator("#where").inner_text() == "Comparison 2 of 4"
    assert heard.import_votes(tmp_path / "votes.jsonl")["added"] == 1


def test_coverage_of_a_model_is_of_all_pairs_that_it_was_heard_in(
    heard: DatabaseManager, tmp_path: Path
) -> None:
    """Of three models each was heard on the recordings of both of its pairs; none is lost."""
    for place in range(4):
        separate(heard, tmp_path, "c:3", place)
    page = tmp_path / "t.html"
    heard.listen("a:1", OTHER, "c:3", path=page, seed=3, catch=0, repeat=0)
    (tmp_path / "v").write_text(votes(page, "Eve", liking(heard, 1)), "utf-8")
    heard.import_votes(tmp_path / "v")
    found = heard.compare("a:1", OTHER, "c:3", metric="preference")
    assert found.notes[3:] == (
        "a:1: of 4 recordings in question 3 done, 1 not heard",
        f"{OTHER}: of 4 recordings in question 2 done, 2 not heard",
        "c:3: of 4 recordings in question 3 done, 1 not heard",
        f"a:1 and {OTHER}: votes: 1, listeners: 1",
        "a:1 and c:3: votes: 2, listeners: 1",
        f"{OTHER} and c:3: votes: 1, listeners: 1",
    )
    assert {pair.lost for pair in found.pairs.values()} == {0}
