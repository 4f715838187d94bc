import numpy as np
import pytest

from neuroalign import schema
from neuroalign.errors import NeuroalignWarning, SchemaError


def recording(scale=1e-5, modality="eeg", n_channels=3, n_times=200, **options):
    values = np.random.default_rng(0).normal(size=(n_channels, n_times)) * scale
    names = [f"c{n}" for n in range(n_channels)]
    units = {"eeg": "V", "ieeg": "V", "meg": "T"}[modality]
    return schema.sensors(values, modality=modality, sfreq=100.0, channel=names, units=units, **options)


def test_good_data_passes_unchanged():
    ds = recording()
    assert schema.validate(ds, "eeg").identical(ds)


def test_wrong_modality_dims_and_labels():
    with pytest.raises(SchemaError, match="meg"):
        schema.validate(recording(), "meg")
    with pytest.raises(SchemaError, match="dimensions"):
        schema.validate(recording().transpose("time", "channel"))
    ds = recording().assign_coords(channel=["a", "b", "a"])
    with pytest.raises(SchemaError, match="repeat"):
        schema.validate(ds)


def test_clock_must_increase_within_runs():
    ds = recording()
    with pytest.raises(SchemaError, match="increase"):
        schema.validate(ds.isel(time=[0, 2, 1, 3]))
    two = ds.isel(time=[0, 1, 0, 1]).assign_coords(run=("time", ["1", "1", "2", "2"]))
    schema.validate(two)
    with pytest.raises(SchemaError, match="grid"):
        schema.validate(ds.assign_coords(time=ds["time"] * 1.003))


@pytest.mark.parametrize(
    ("modality", "scale", "unit"),
    [("eeg", 10.0, "uV"), ("eeg", 1e-2, "mV"), ("ieeg", 100.0, "uV"), ("meg", 100.0, "fT"), ("meg", 1e-1, "pT")],
)
def test_values_out_of_band_name_the_unit_that_fits(modality, scale, unit):
    with pytest.warns(NeuroalignWarning, match=f"units='{unit}'"):
        ds = schema.validate(recording(scale=scale, modality=modality))
    assert unit in schema.history(ds)["log"][0]


@pytest.mark.parametrize("power", [-15, -12, -9, -6, 6, 9, 12, 15])
def test_any_gross_scale_error_is_noticed(power):
    with pytest.warns(NeuroalignWarning, match="RMS"):
        schema.validate(recording(scale=1e-5 * 10.0**power))


def test_offsets_do_not_count():
    ds = recording()
    ds["eeg"] = ds["eeg"] + 0.02  # an amplifier's DC offset
    schema.validate(ds)


def test_nan_policies():
    ds = recording()
    ds["eeg"][1, 5] = np.nan
    with pytest.raises(SchemaError, match=r"'channel': 'c1'"):
        schema.validate(ds)
    assert schema.validate(ds, nan="keep") is ds
    with pytest.warns(NeuroalignWarning, match="1 of 200"):
        masked = schema.validate(ds, nan="mask")
    assert int((~masked["valid"]).sum()) == 1
    schema.validate(masked)  # marked samples may hold anything


def test_dead_channel_is_marked_bad():
    ds = recording()
    ds["eeg"][2] = np.nan
    with pytest.warns(NeuroalignWarning):
        masked = schema.validate(ds, nan="mask")
    assert masked["bad"].values.tolist() == [False, False, True]
    assert masked["valid"].all()


def test_tr_and_bold():
    good = schema.fmri_regions(np.full((5, 2), 100.0), roi=["a", "b"], tr=2.0)
    schema.validate(good, "fmri")
    with pytest.raises(SchemaError, match="TR"):
        schema.validate(schema.fmri_regions(np.full((5, 2), 100.0), roi=["a", "b"], tr=2000.0))
    with pytest.warns(NeuroalignWarning, match="not positive"):
        schema.validate(schema.fmri_regions(np.full((5, 2), -1.0), roi=["a", "b"], tr=2.0))


def test_values_that_are_a_thousand_times_too_small_are_noticed():
    with pytest.warns(NeuroalignWarning, match="a factor of 1e3 would fit"):
        schema.validate(recording(scale=20e-9))
