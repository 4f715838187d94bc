"""The demonstration finds its truth, at a size that tests can afford."""

from __future__ import annotations

import pytest

from neuroalign.pipeline.demo import TOLERANCE, Check, run_demo, truth_table


@pytest.mark.slow
def test_truth_is_found_and_reported(tmp_path):
    said = []
    outcome = run_demo(tmp_path / "demo", n_subjects=2, n_images=100, modalities=("eeg",), n_workers=1, say=said.append)
    by_name = {check.what: check for check in outcome.checks}
    for what in ("layer", "noise ceiling", "false positives", "latency", "RSA layer"):
        assert by_name[f"eeg: {what}"].holds, by_name[f"eeg: {what}"]
    # 100 images leave a little more to learn than the 144 of the full size.
    score = by_name["eeg: R2 at active sites"]
    assert abs(float(score.truth.split()[1]) - float(score.found.split()[0])) < TOLERANCE + 0.03
    assert said
    page = outcome.report.read_text(encoding="utf-8")
    assert "Truth and findings" in page
    assert "Representational similarity" in page


def test_a_missed_truth_is_shown_in_capitals():
    text = truth_table([Check("eeg: layer", "block3", "block1 in 3 of 3 subjects", False)])
    assert text.splitlines()[-1].endswith("NO")
