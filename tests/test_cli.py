"""The command line: exit codes, messages without tracebacks, and nothing half-written."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import xarray as xr

from neuroalign import __version__, storage
from neuroalign.cli import main
from neuroalign.schema import features


def run(*words, cwd=None, env=None):
    return subprocess.run(
        [sys.executable, "-m", "neuroalign", *map(str, words)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, **(env or {})},
    )


@pytest.fixture
def study(tmp_path):
    rng = np.random.default_rng(0)
    ids = [f"s{k}" for k in range(40)]
    X = features(rng.normal(size=(40, 3)), stimulus=ids, layer="layer")
    y = xr.DataArray(X.values @ rng.normal(size=(3, 5)), dims=("stimulus", "voxel"), coords={"stimulus": ids}, name="y")
    storage.save(X, tmp_path / "x.zarr")
    storage.save(y, tmp_path / "y.zarr")
    return tmp_path


def test_version_and_help(capsys):
    assert main(["--version"]) == 0
    assert __version__ in capsys.readouterr().out
    assert main(["--help"]) == 0
    listed = capsys.readouterr().out
    for name in ("demo", "inspect", "encode", "decode", "rsa", "run", "check", "report", "fetch", "simulate"):
        assert name in listed


def test_encode_then_check_then_report(study, capsys):
    out = study / "out"
    assert (
        main(["encode", str(study / "x.zarr"), str(study / "y.zarr"), "--out", str(out), "--permutations", "19"]) == 0
    )
    assert "report.html" in capsys.readouterr().out
    assert main(["check", str(out / "result.zarr")]) == 0
    assert main(["report", str(out / "result.zarr"), "--out", str(study / "again.html")]) == 0
    assert (study / "again.html").is_file()


def test_recipe_does_the_same(study, capsys):
    recipe = study / "recipe.yaml"
    recipe.write_text("step: encode\nfeatures: x.zarr\nresponses: y.zarr\nout: from-recipe\npermutations: 0\n")
    assert main(["check", str(recipe)]) == 0
    assert main(["run", str(recipe)]) == 0
    assert (study / "from-recipe" / "report.html").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["inspect", "missing.edf"], "no such file"),
        (["encode", "x.zarr", "missing.zarr", "--out", "out"], "no such file"),
        (["encode", "x.zarr", "y.zarr", "--out", "out", "--delays", "a,b"], "whole numbers"),
        (["encode", "x.zarr", "y.zarr", "--out", "out", "--groups", "runs"], "runs"),
        (["encode", "x.zarr", "y.zarr"], "--out"),
        (["encode", "x.zarr", "y.zarr", "--out", "out", "--nothing"], "No such option"),
        (["fetch", "objects82"], "objects81"),
        (["check", "y.zarr/none.yaml"], "No such recipe"),
        (["frobnicate"], "No such command"),
    ],
)
def test_bad_input_gets_a_message_and_exit_code_2(study, words, message):
    done = run(*words, cwd=study)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert sorted(p.name for p in study.iterdir()) == ["x.zarr", "y.zarr"]


def test_damage_is_found_by_check(study):
    victim = next(p for p in (study / "y.zarr").rglob("c/*") if p.is_file())
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(data)
    done = run("check", study / "y.zarr")
    assert done.returncode == 2
    assert victim.name in done.stderr
    assert "Traceback" not in done.stderr


def test_stopping_leaves_nothing_half_written(study):
    words = ["encode", "x.zarr", "y.zarr", "--out", "out", "--permutations", "1000000"]
    process = subprocess.Popen(
        [sys.executable, "-m", "neuroalign", *words],
        cwd=study,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    time.sleep(8)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Stopped" in err
    assert "Traceback" not in err
    assert sorted(p.name for p in study.iterdir()) == ["x.zarr", "y.zarr"]


@pytest.mark.parametrize(
    ("folder", "file", "words"),
    [
        ("eeg-formats", "test.vhdr", "32 channel x 7900 time"),
        ("ieeg-mne-misc", "sample_seeg.edf", "98 channel x 20000 time"),
        ("meg-mne-audvis", "sample_audvis_trunc_raw_sss.fif", "376 channel x 301 time"),
        ("haxby2001-pymvpa", "bold.nii.gz", "1452 time"),
        ("eeg-formats", "test_egi.raw", "262 channel x 77 time"),
        ("eeg-formats", "MB0400FU.EEG", "25 channel x 5800 time"),
        ("meg-ctf-kit-bti", "bti/test_pdf_linux", "280 channel x 305 time"),
        ("meg-ctf-kit-bti", "kit/test_umd-raw.sqd", "193 channel x 100 time"),
        ("meg-mne-audvis", "fieldtrip_epoched_v7.mat", "18 trial x 376 channel"),
        ("meg-mne-audvis", "sample_audvis_trunc-meg-lh.stc", "7928 vertex x 25 time"),
        ("meg-mne-audvis", "sample_audvis_trunc-cov.fif", "366 channel x 366 channel_2"),
    ],
)
def test_real_files_are_described(real_data, folder, file, words, capsys):
    assert main(["inspect", str(real_data(folder) / file)]) == 0
    assert words in capsys.readouterr().out


def test_options_of_a_reader(real_data, capsys):
    path = str(real_data("eeg-formats") / "scan41_short.cnt")
    assert main(["inspect", path]) == 2
    assert "data_format=" in capsys.readouterr().err
    assert main(["inspect", path, "--option", "data_format=int16"]) == 0
    assert "128 channel x 3070 time" in capsys.readouterr().out
    assert main(["inspect", path, "--option", "int16"]) == 2
    assert "name=value" in capsys.readouterr().err
