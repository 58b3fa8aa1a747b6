"""Manifests and results in the shapes that the tools of the field write; all values are made up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

LIBRIMIX = """\
mixture_ID,mixture_path,source_1_path,source_2_path,noise_path,length
11-1-01_22-2-02,/d/wav8k/min/test/mix_both/m1.wav,/d/s1/m1.wav,/d/s2/m1.wav,/d/noise/m1.wav,24000
x_y,/d/wav16k/max/test/mix_both/m2.wav,/d/s1/m2.wav,/d/s2/m2.wav,,32000.0
"""
SPEECHBRAIN = (
    "ID, duration, mix_wav, mix_wav_format, s1_wav, s1_wav_format, s2_wav\r\n"
    "0,1.0,/d/mix/a.wav,wav,/d/s1/a.wav,wav,/d/s2/a.wav\r\n"
    "1,1.0,/d/mix/b.wav,wav,/d/s1/b.wav,wav,/d/s2/b.wav\r\n"
)
KALDI = {
    "wav.scp": "utt_a /d/mix/utt_a.wav\nutt_b\t/d/mix/utt b.wav\n"
    "utt_c sph2pipe -p /d/c.sph |\nutt_d raw/mix.ark:1234\n",
    "spk1.scp": "utt_a /d/s1/utt_a.wav\nutt_b /d/s1/utt_b.wav\n",
    "spk2.scp": "utt_a /d/s2/utt_a.wav\nutt_b /d/s2/utt_b.wav\n",
    "utt2spk": "utt_a ada_bob\nutt_b ada_bob\n",
    "utt2dur": "utt_a 3.5\nutt_b 4\n",
}


def recording(name: str, *kinds: str) -> dict[str, Any]:
    """Return a recording as Lhotse writes it, of one source a kind."""
    sources = [
        {"type": kind, "channels": [place], "source": f"mix/{name}.wav"}
        for place, kind in enumerate(kinds or ("file",))
    ]
    facts = {"sampling_rate": 8000, "num_samples": 24000, "duration": 3.0}
    return {"id": name, "sources": sources, **facts, "channel_ids": [*range(len(sources))]}


def cut(name: str, *speakers: str) -> dict[str, Any]:
    """Return a cut as Lhotse writes it."""
    parts = [{"id": f"{name}_{one}", "recording_id": name, "speaker": one} for one in speakers]
    return {"id": f"{name}-0", "supervisions": parts, "recording": recording(name)}


def write_lines(path: Path, *records: object) -> Path:
    """Write JSON lines."""
    path.write_text("".join(f"{json.dumps(record)}\n" for record in records))
    return path


def write_files(folder: Path, files: dict[str, str]) -> Path:
    """Write texts below a folder, byte for byte."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())
    return folder


ASTEROID = """\
,input_si_sdr,input_sdr,si_sdr,sdr,stoi,mix_path
0,-0.5,0.25,17.0,17.25,0.8,/d/mix/a.wav
1,0.5,0.25,16.0,,0.7,/d/mix/b.wav
"""
RESULTS_SPEECHBRAIN = (
    "snt_id,sdr,sdr_i,si-snr,si-snr_i\r\n"
    "0,15.9,15.7,15.4,15.3\r\n1,nan,nan,-3.1,-2.9\r\navg,nan,nan,6.1,6.2\r\n"
)
TDANET = "snt_id,sdr,sdr_i\na.wav,15.9,15.7\nb.wav,14.2,14.1\navg,15.0,14.9\nstd,0.8,0.8\n"
DNSMOS = (
    ",filename,len_in_sec,sr,num_hops,OVRL_raw,SIG_raw,BAK_raw,OVRL,SIG,BAK,P808_MOS\n"
    "0,/e/a_s2.wav,3.0,16000,3,2.8,3.7,2.8,2.6,3.4,3.1,2.5\n"
    "1,/e/a_s1.wav,3.0,16000,3,2.0,2.8,2.2,2.0,2.8,2.5,2.4\n"
)
NISQA = "deg,mos_pred,noi_pred,dis_pred,col_pred,loud_pred,model\na_s1.wav,1.2,1.6,1.8,1.7,2.4,v2\n"
VERSA = """\
{"key": "a_s1.wav", "sdr": 16.1, "sir": Infinity, "sar": 16.1, "stoi": 0.8, "pesq": 1.7}
{"key": "silent.wav"}
{"key": "a_s2.wav", "signal_metric": null, "stoi": 1e-05, "pesq": -7, "ref_text": "hello",\
 "whisper_wer_equal": 6, "whisper_wer_delete": 1, "whisper_wer_replace": 1, "whisper_wer_insert": 2}
{"key": "a_s1.wav", "pesq": 1.9, "shine": 3}
"""
MUSEVAL = """{
"targets": [{"name": "vocals", "frames": [
  {"time": 0.0, "duration": 1.0, "metrics": {"SDR": NaN, "SIR": NaN}},
  {"time": 1.0, "duration": 1.0, "metrics": {"SDR": 11.0, "SIR": 19.0}},
  {"time": 2.0, "duration": 1.0, "metrics": {"SDR": 8.0, "SIR": 15.0}}]},
 {"name": "silence", "frames": [{"time": 0.0, "duration": 1.0, "metrics": {"SDR": NaN}}]}],
"museval_version": "0.4.1"}"""
ESPNET = {
    "dump/scoring/SI_SNR_spk1": "a 0.1\n",
    "exp/scoring/SI_SNR_spk1": "a 15.6\nb 14.4\n",
    "exp/scoring/STOI_spk1": "a 95.0\nb 0.5\n",
    "exp/scoring/SDR_spk2": "a inf\n",
    "exp/scoring/wav_spk1": "a /e/a_1.wav\nb /e/b_1.wav\n",
    "exp/scoring/result_stoi.txt": "94.17\n",
    "exp/RESULTS.md": "# RESULTS\n",
}
