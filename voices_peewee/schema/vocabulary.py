"""What every column and well-known metric is called, in which unit, and what is good.

The one place: CHECKs, metrics, lists, tables, HTML, plots, web pages and completion read it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from voices_peewee.rendering.table import Column


class Term(NamedTuple):
    """A column of the record, or a metric.

    ``title`` is what people read, ``kind`` one of ``rendering.plain.KINDS``, ``bounds`` what a
    value may be, ``higher_is_better`` the direction of a metric (None: it has none), and
    ``spellings`` other names of a metric, as ``spelled`` reduces them.
    """

    name: str
    title: str
    kind: str
    unit: str = ""
    bounds: tuple[float, float] | None = None
    higher_is_better: bool | None = None
    spellings: tuple[str, ...] = ()
    about: str = ""


_COLUMNS: Final = (
    Term("id", "id", "integer", about="Id of the row."),
    Term("created_at", "added", "time", about="When the row was written (UTC)."),
    Term("updated_at", "changed", "time", about="When the row was last changed (UTC)."),
    # speakers
    Term("name", "name", "text", about="Name; several speakers may share one."),
    Term("description", "description", "text", about="Free text."),
    Term("tags", "tags", "tags", about="JSON array of texts."),
    # processed_files
    Term("filename", "file", "path", about="Name of the file, without its folder."),
    Term("original_path", "path", "path", about="Path or URL of the recording."),
    Term("processed_path", "output", "path", about="Path of the output; empty for a recording."),
    Term("file_format", "format", "text", about="Format of the audio, such as wav or flac."),
    Term("duration", "duration", "seconds", "s", (0, 1e12), about="Duration in seconds."),
    Term("sample_rate", "rate", "hertz", "Hz", (1, 10_000_000), about="Samples a second."),
    Term("channels", "channels", "integer", "", (1, 1024), about="Number of channels."),
    Term("file_size", "size", "bytes", "bytes", (0, 2**63 - 1), about="Size in bytes."),
    Term("content_hash", "hash", "text", about="SHA-256 of the file's bytes, in hexadecimal."),
    Term("metadata", "metadata", "json", about="JSON object with anything else that is known."),
    Term("speaker_id", "speaker id", "integer", about="Whose voice it is."),
    Term("recording_id", "recording id", "integer", about="Whose output or voice it is, or empty."),
    Term("read_at", "read", "time", about="When the file's content was last read (UTC)."),
    Term("file_stamp", "stamp", "integer", about="Which file was read: its inode and times."),
    # processing_history
    Term("processed_file_id", "file id", "integer", about="The file that it was done to."),
    Term("run_id", "run", "text", about="Groups the rows of one run: one for each output."),
    Term("operation_type", "operation", "text", about="What was done: voice_separation, say."),
    Term("model_type", "model type", "text", about="Name of the model."),
    Term("model_version", "version", "text", about="Version of the model."),
    Term("parameters", "parameters", "json", about="JSON object with the settings of the run."),
    Term("start_time", "started", "time", about="When the run began (UTC)."),
    Term("end_time", "ended", "time", about="When the run ended (UTC); empty while unfinished."),
    Term("success", "success", "boolean", about="Whether the run succeeded."),
    Term("status", "status", "text", about="success, failed or unfinished (no end time yet)."),
    Term("error_message", "error", "text", about="Why the run failed, with the traceback."),
    Term("source_hash", "source hash", "text", about="SHA-256 of the recording at the start."),
    Term("process", "process", "json", about="The host and the process that recorded the run."),
    Term("environment_id", "environment id", "integer", about="Where the run was made."),
    Term("model_hash", "model hash", "text", about="SHA-256 of the file with the weights."),
    Term("note", "note", "text", about="What people wrote about the run."),
    # environments
    Term("facts", "environment", "json", about="JSON object: Python, host, git, torch, Slurm."),
    Term("digest", "digest", "text", about="SHA-256 of the facts."),
    # claims
    Term("source", "source", "path", about="The recording that is being worked on."),
    Term("settings", "settings", "text", about="Digest of operation, model and parameters."),
    Term("claimed_at", "claimed", "time", about="When the work began (UTC)."),
    Term("expires_at", "expires", "time", about="When another host may take it over (UTC)."),
    # model_performance
    Term("processing_history_id", "history id", "integer", about="The measured history row."),
    Term("additional_metrics", "metrics", "json", about="JSON object with every other metric."),
    # listening_tests, listening_votes
    Term("question", "question", "text", about="What listeners are asked."),
    Term("plan", "plan", "json", about="JSON object: what the tokens of the test stand for."),
    Term("test_id", "test id", "integer", about="The listening test."),
    Term("a_id", "A", "integer", about="The history row of the stem that was heard as A."),
    Term("b_id", "B", "integer", about="The history row of the stem that was heard as B."),
    Term("listener", "listener", "text", about="The name or code that a listener gave."),
    Term("session", "session", "text", about="One way through a test; random."),
    Term("trial", "trial", "text", about="The token of the comparison in the test."),
    Term("kind", "kind", "text", about="pair, repeat, or right or wrong where that is known."),
    Term("position", "position", "integer", about="When in the session it was heard, from 1."),
    Term("choice", "choice", "text", about="a, b, or nothing for no preference."),
    Term("details", "details", "json", about="JSON object: what was heard for how long."),
    Term("voted_at", "voted", "time", about="When the vote was given (UTC)."),
    # schema_migrations
    Term("migrated_at", "applied", "time", about="When the migration was applied (UTC)."),
)

_DB: Final = ("decibel", "dB", (-1e6, 1e6), True)
_MOS: Final = ("number", "MOS", None, True)
_SCORE: Final = ("number", "", None, True)
_ERROR: Final = ("number", "", None, False)
_COST: Final = False  # less is better

# The columns of model_performance: of a stem, and of a whole run.
_STEM_METRICS: Final = (
    Term(
        *("si_snri", "SI-SNRi", *_DB, ("si_snr_i", "sisnri")),
        "Improvement of the scale-invariant signal-to-noise ratio, in dB; higher is better.",
    ),
    Term(
        *("sdri", "SDRi", *_DB, ("sdr_i", "sdr_imp")),
        "Improvement of the signal-to-distortion ratio, in dB; higher is better.",
    ),
)
# What is the whole run's, however many outputs it has.
_RUN_METRICS: Final = (
    Term(
        *("cpu_usage", "CPU", "percent", "%", (0, 1e9), _COST, ("cpu",)),
        "CPU time in percent of one core.",
    ),
    Term(
        *("memory_usage", "peak memory", "megabytes", "MB", (0, 1e12), _COST, ("memory", "mb")),
        "Peak memory in MB.",
    ),
    Term(
        *("processing_time", "processing time", "seconds", "s", (0, 1e12), _COST, ("time",)),
        "Processing time in seconds.",
    ),
    Term(
        *("real_time_factor", "RTF", "number", "", (0, 1e15), _COST, ("rtf",)),
        "Processing time ÷ duration of the audio; below 1 is faster than live.",
    ),
)
_OTHER_METRICS: Final = (  # well-known ones of additional_metrics
    Term("si_sdr", "SI-SDR", *_DB, ("sisdr",)),
    Term("si_sdri", "SI-SDRi", *_DB, ("si_sdr_imp", "sisdri")),
    Term("si_snr", "SI-SNR", *_DB, ("sisnr",)),
    Term("sdr", "SDR", *_DB),
    Term("nsdr", "nSDR", *_DB),
    Term("ci_sdr", "CI-SDR", *_DB),
    Term("sir", "SIR", *_DB),
    Term("sar", "SAR", *_DB),
    Term("isr", "ISR", *_DB),
    Term("snr", "SNR", *_DB),
    Term("snri", "SNRi", *_DB, ("snr_i",)),
    Term("seg_snr", "segmental SNR", *_DB, ("ssnr",)),
    Term("fwsegsnr", "frequency-weighted segmental SNR", *_DB, ("pysepm_fwsegsnr",)),
    Term("pesq", "PESQ", *_MOS),
    Term("pesq_wb", "PESQ wideband", *_MOS),
    Term("pesq_nb", "PESQ narrowband", *_MOS, ("nb_pesq",)),
    Term("polqa", "POLQA", *_MOS),
    Term("stoi", "STOI", *_SCORE),
    Term("estoi", "ESTOI", *_SCORE),
    Term("haspi", "HASPI", *_SCORE),
    Term("dnsmos", "DNSMOS", *_MOS),
    Term("dnsmos_ovrl", "DNSMOS overall", *_MOS, ("dns_overall", "ovrl", "ovrl_mos")),
    Term("dnsmos_sig", "DNSMOS signal", *_MOS, ("dns_sig", "sig", "sig_mos")),
    Term("dnsmos_bak", "DNSMOS background", *_MOS, ("dns_bak", "bak", "bak_mos")),
    Term("dnsmos_p808", "DNSMOS P.808", *_MOS, ("dns_p808", "p808_mos")),
    Term("nisqa", "NISQA", *_MOS),
    Term("nisqa_mos", "NISQA overall", *_MOS, ("mos_pred", "nisqa_mos_pred")),
    Term("nisqa_noi", "NISQA noisiness", *_MOS, ("noi_pred", "nisqa_noi_pred")),
    Term("nisqa_dis", "NISQA discontinuity", *_MOS, ("dis_pred", "nisqa_dis_pred")),
    Term("nisqa_col", "NISQA coloration", *_MOS, ("col_pred", "nisqa_col_pred")),
    Term("nisqa_loud", "NISQA loudness", *_MOS, ("loud_pred", "nisqa_loud_pred")),
    Term("mos", "MOS", *_MOS),
    Term("utmos", "UTMOS", *_MOS),
    Term("utmosv2", "UTMOSv2", *_MOS),
    Term("plcmos", "PLCMOS", *_MOS),
    Term("visqol", "ViSQOL", *_MOS),
    Term("distill_mos", "Distill-MOS", *_MOS),
    Term("csig", "Csig", *_MOS, ("pysepm_c_sig",)),
    Term("cbak", "Cbak", *_MOS, ("pysepm_c_bak",)),
    Term("covl", "Covl", *_MOS, ("pysepm_c_ovl",)),
    Term("spk_sim", "speaker similarity", *_SCORE, ("spk_similarity", "cos_sim")),
    Term("srmr", "SRMR", *_SCORE),
    Term("ncm", "NCM", *_SCORE),
    Term("f0_corr", "F0 correlation", *_SCORE, ("f0corr",)),
    Term("accuracy", "accuracy", *_SCORE),
    Term("wer", "WER", *_ERROR),
    Term("cer", "CER", *_ERROR),
    Term("per", "PER", *_ERROR),
    Term("der", "DER", *_ERROR),
    Term("eer", "EER", *_ERROR),
    Term("mcd", "MCD", "decibel", "dB", None, False),
    Term("lsd", "LSD", *_ERROR),
    Term("f0_rmse", "F0 RMSE", "number", "Hz", None, False, ("f0rmse",)),
    Term("llr", "LLR", *_ERROR, ("pysepm_llr",)),
    Term("wss", "WSS", *_ERROR, ("pysepm_wss",)),
    Term("cd", "cepstral distance", *_ERROR, ("pysepm_cd",)),
    Term("loss", "loss", *_ERROR),
    Term("mae", "MAE", *_ERROR),
    Term("mse", "MSE", *_ERROR),
    Term("rmse", "RMSE", *_ERROR),
    Term("latency", "latency", *_ERROR),
    Term("gpu_memory_mb", "GPU memory", "megabytes", "MB", None, False),
)

RUN_LEVEL: Final = tuple(term.name for term in _RUN_METRICS)
METRIC_COLUMNS: Final = (*(term.name for term in _STEM_METRICS), *RUN_LEVEL)
COLUMNS: Final = {term.name: term for term in (*_COLUMNS, *_STEM_METRICS, *_RUN_METRICS)}
METRICS: Final = {term.name: term for term in (*_OTHER_METRICS, *_STEM_METRICS, *_RUN_METRICS)}


def describe(name: str) -> Column:
    """Return what tables show of a column; of one that is unknown, its name."""
    from voices_peewee.rendering.table import Column

    term = COLUMNS.get(name)
    return Column(name, term.kind, term.title) if term else Column(name)


def spelled(name: str) -> str:
    """Return a metric's name as the vocabulary writes it: lower case, ``_`` for ``-`` and space."""
    return name.strip().lower().replace("-", "_").replace(" ", "_")


_SPELLINGS: Final = {
    spelling: term.name
    for term in METRICS.values()
    for spelling in (term.name, spelled(term.title), *term.spellings)
}


def find_metric(name: str) -> Term | None:
    """Return the well-known metric of a name in any spelling, such as ``SI-SNRi``, or None."""
    known = _SPELLINGS.get(spelled(name))
    return None if known is None else METRICS[known]


def check_sql(name: str) -> str:
    """Return the condition that keeps a column within its bounds.

    BETWEEN also refuses text in a numeric column of SQLite, because text sorts above numbers.
    """
    bounds = COLUMNS[name].bounds
    if bounds is None:
        raise ValueError(f"{name} has no bounds")
    low, high = (_written(bound) for bound in bounds)
    return f"{name} BETWEEN {low} AND {high}"


def _written(bound: float) -> str:
    return str(bound) if isinstance(bound, int) else re.sub(r"e\+?(-?)0*", r"e\1", f"{bound:g}")
