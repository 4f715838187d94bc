"""SSS through MNE on real recordings of four makers: equal values, labels kept, and what is refused."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from sklearn.base import clone

from neuroalign import load_model, schema, storage
from neuroalign.convert import from_mne, to_mne
from neuroalign.errors import AlignmentError, NeuroalignWarning, SchemaError
from neuroalign.preprocess import MaxwellFilter

mne = pytest.importorskip("mne")

ORIGIN = (0.0, 0.0, 0.04)


def ctf(root: Path) -> Any:
    return mne.io.read_raw_fif(root / "ctf" / "test_ctf_comp_raw.fif", preload=True, verbose="error")


def bti(root: Path) -> Any:
    return mne.io.read_raw_fif(root / "bti" / "exported4D_linux_raw.fif", preload=True, verbose="error")


def kit(root: Path) -> Any:
    parts = {name: root / "kit" / f"test{end}" for name, end in (("mrk", "_mrk.sqd"), ("elp", ".elp"), ("hsp", ".hsp"))}
    return mne.io.read_raw_kit(root / "kit" / "test.sqd", preload=True, verbose="error", **parts)


def label(raw: Any) -> xr.Dataset:
    with warnings.catch_warnings():  # short and old recordings, some without units in a plausible band
        warnings.simplefilter("ignore", NeuroalignWarning)
        return from_mne(raw)


@pytest.mark.parametrize(
    ("read", "options"),
    [
        (ctf, {"origin": ORIGIN}),
        (bti, {}),
        (ctf, {"origin": ORIGIN, "st_duration": 0.25}),
        (kit, {"ignore_ref": True}),
    ],
)
def test_equal_to_mne(read: Callable[[Path], Any], options: dict[str, Any], real_data: Callable[[str], Path]) -> None:
    raw = read(real_data("meg-ctf-kit-bti"))
    raw.info["bads"] = [raw.ch_names[mne.pick_types(raw.info, meg=True, ref_meg=False)[3]]]
    ds = label(raw)
    out = MaxwellFilter(**options).fit_transform(ds)
    theirs = mne.preprocessing.maxwell_filter(raw, verbose="error", **options)
    scale = np.abs(theirs.get_data()).max(axis=1, keepdims=True) + 1e-20
    np.testing.assert_allclose(out["meg"].values / scale, theirs.get_data() / scale, atol=1e-4)
    assert ds["bad"].values.sum() == 1
    assert not out["bad"].values.any()  # put together anew from the others
    for name in set(ds.coords) - {"bad"}:
        xr.testing.assert_equal(out[name].variable, ds[name].variable)
    assert out["meg"].dtype == np.float32
    assert schema.history(out)["steps"][-1]["step"] == "MaxwellFilter"
    assert to_mne(out).info["proc_history"][0]["max_info"]["sss_info"]
    with pytest.raises(SchemaError, match="was applied to this recording before"):
        MaxwellFilter(**options).fit(out)


def test_nothing_personal_comes_in(real_data: Callable[[str], Path]) -> None:
    out = MaxwellFilter(ORIGIN).fit_transform(label(ctf(real_data("meg-ctf-kit-bti"))))
    entry = json.loads(out.attrs["mne_info"])["proc_history"][0]
    assert entry["date"] == [0, 0]
    assert entry["experimenter"] == ""
    assert entry["block_id"]["machid"] == [0, 0]


def test_gaps_stay_gaps(real_data: Callable[[str], Path]) -> None:
    raw = bti(real_data("meg-ctf-kit-bti"))
    raw.set_annotations(mne.Annotations(0.1, 0.05, "BAD_ACQ_SKIP"))
    ds = label(raw)
    gap = ~ds["valid"].values
    assert 0 < gap.sum() < 100
    out = MaxwellFilter().fit_transform(ds)
    np.testing.assert_array_equal(np.isnan(out["meg"].values).all(axis=0), gap)
    np.testing.assert_array_equal(np.isnan(out["meg"].values).any(axis=0), gap)


def test_saved_stored_and_cloned(tmp_path: Path, real_data: Callable[[str], Path]) -> None:
    ds = label(bti(real_data("meg-ctf-kit-bti")))
    model = clone(MaxwellFilter(ORIGIN)).fit(ds)
    model.save(tmp_path / "model")
    again = load_model(tmp_path / "model")
    out = model.transform(ds)
    np.testing.assert_array_equal(again.transform(ds)["meg"].values, out["meg"].values)
    storage.save(out, tmp_path / "out.zarr")
    with pytest.raises(SchemaError, match="before"):
        again.transform(storage.open(tmp_path / "out.zarr"))
    with pytest.raises(AlignmentError, match="channels"):
        again.transform(ds.isel(channel=slice(None, None, -1)))


def test_what_mne_refuses_names_the_argument(real_data: Callable[[str], Path]) -> None:
    root = real_data("meg-ctf-kit-bti")
    with pytest.raises(SchemaError, match=r"No digitization points[\s\S]*origin="):
        MaxwellFilter().fit_transform(label(ctf(root)))
    with pytest.raises(SchemaError, match=r"KIT reference channels[\s\S]*ignore_ref=True"):
        MaxwellFilter().fit_transform(label(kit(root)))
    with pytest.raises(SchemaError, match=r"compensated channels[\s\S]*apply_gradient_compensation"):
        MaxwellFilter(ORIGIN, ignore_ref=True).fit_transform(label(ctf(root)))
    with pytest.raises(SchemaError, match="cannot apply SSS"):
        MaxwellFilter(calibration=str(root / "no-such.dat")).fit_transform(label(bti(root)))


def test_recordings_that_cannot_be_filtered(real_data: Callable[[str], Path]) -> None:
    done = mne.io.read_raw_fif(
        real_data("meg-mne-audvis") / "sample_audvis_trunc_raw_sss.fif", preload=True, verbose="error"
    )
    with pytest.raises(SchemaError, match="before"):
        MaxwellFilter().fit(label(done))
    ds = label(bti(real_data("meg-ctf-kit-bti")))
    with pytest.raises(SchemaError, match="continuous MEG"):
        MaxwellFilter().fit(ds["meg"])
    with pytest.raises(SchemaError, match="continuous MEG"):
        MaxwellFilter().fit(xr.concat([ds, ds], "trial", data_vars="all"))
    with pytest.raises(SchemaError, match="read_meg"):
        MaxwellFilter().fit(ds.drop_attrs())
    lost = json.loads(ds.attrs["mne_info"]) | {"dev_head_t": None}
    with pytest.raises(SchemaError, match="mrk="):
        MaxwellFilter().fit(ds.assign_attrs(mne_info=json.dumps(lost)))


def test_the_remedy_for_maxshield_works(tmp_path: Path, real_data: Callable[[str], Path]) -> None:
    from neuroalign.loaders import read_meg

    raw = bti(real_data("meg-ctf-kit-bti"))
    path = tmp_path / "shield_raw.fif"
    raw.save(path, verbose="error")
    plain = path.read_bytes()
    # Blocks 102 (raw data) become 119 (raw data with internal active shielding).
    data = plain
    for kind in (b"\x00\x00\x00\x68", b"\x00\x00\x00\x69"):
        head = kind + b"\x00\x00\x00\x03\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00"
        assert head + b"\x66" in data
        data = data.replace(head + b"\x66", head + b"\x77")
    path.write_bytes(data)
    with pytest.raises(SchemaError, match=r"allow_maxshield=True[\s\S]*MaxwellFilter"):
        read_meg(path)
    with pytest.warns(NeuroalignWarning, match="Active Shielding"):
        shielded = read_meg(path, allow_maxshield=True)
    out = MaxwellFilter().fit_transform(shielded)
    expected = mne.preprocessing.maxwell_filter(raw, verbose="error").get_data("meg")
    kept = np.isin(out["channel_type"].values.astype(str), ("mag", "grad"))
    np.testing.assert_allclose(out["meg"].values[kept], expected, rtol=1e-3, atol=1e-17)
    assert not json.loads(out.attrs["mne_info"]).get("maxshield")
