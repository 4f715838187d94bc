import hashlib

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from neuroalign.errors import ConfigError
from neuroalign.storage import content_key, save, sha256_file, step_key
from neuroalign.storage import open as open_store


def table() -> xr.Dataset:
    values = np.random.default_rng(0).standard_normal((40, 30)).astype("f4")
    return xr.Dataset(
        {"bold": (("time", "voxel"), values, {"units": "1", "tr": 1.5})},
        coords={"voxel": [f"v{k}" for k in range(30)], "roi": ("voxel", ["A", "B"] * 15), "time": np.arange(40.0)},
        attrs={"a": 1, "b": [1, 2], "c": "x"},
    )


def test_equal_content_gives_an_equal_key(tmp_path):
    ds = table()
    key = content_key(ds)
    twins = {
        "copy": ds.copy(deep=True),
        "chunks": ds.chunk(time=7, voxel=11),
        "other chunks": ds.chunk(time=13, voxel=30),
        "attrs": ds.copy().assign_attrs({"c": "x", "b": (1, 2), "a": np.int64(1)}),
        "memory order": ds.assign(bold=ds["bold"].copy(data=np.asfortranarray(ds["bold"].values))),
        "byte order": ds.assign(bold=ds["bold"].copy(data=ds["bold"].values.astype(">f4"))),
        "order of coordinates": ds.reset_coords("roi").set_coords("roi"),
        "object text": ds.assign_coords(roi=ds["roi"].astype(object)),
        "store": open_store(save(ds, tmp_path / "x.zarr")),
    }
    twins["attrs"].attrs = {k: twins["attrs"].attrs[k] for k in "cba"}
    assert {name: content_key(twin) for name, twin in twins.items()} == dict.fromkeys(twins, key)


def test_any_change_gives_another_key():
    ds = table()
    other_value = ds.copy(deep=True)
    other_value["bold"].values[3, 4] = np.nextafter(other_value["bold"].values[3, 4], np.float32(9))
    changed = {
        "same": ds,
        "value": other_value,
        "dtype": ds.astype("f8"),
        "dim": ds.rename(time="trial"),
        "transposed": ds.transpose(),
        "label": ds.assign_coords(voxel=ds["voxel"].values[::-1]),
        "coordinate to variable": ds.reset_coords("roi"),
        "coordinate gone": ds.drop_vars("roi"),
        "attribute": ds.assign_attrs(a=2),
        "type of attribute": ds.assign_attrs(a=True),
        "name": ds.rename(bold="eeg"),
        "array": ds["bold"],
        "fewer": ds.isel(time=slice(39)),
    }
    keys = {name: content_key(obj) for name, obj in changed.items()}
    keys |= {"parameter": content_key(ds, alpha=1), "other parameter": content_key(ds, alpha=1.0)}
    keys |= {"twice": content_key(ds, ds), "list": content_key([ds]), "step": step_key("s", ds, version=1)}
    keys |= {"step version": step_key("s", ds, version=2)}
    assert len(set(keys.values())) == len(keys)


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def _shape_of(value):
    """A value with types told apart: True is not 1, and 1 is not 1.0; a tuple is a list."""
    if isinstance(value, (list, tuple)):
        return ("list", tuple(map(_shape_of, value)))
    if isinstance(value, dict):
        return ("map", tuple(sorted((k, _shape_of(v)) for k, v in value.items())))
    return (type(value).__name__, repr(value))


@settings(max_examples=150, deadline=None)
@given(PLAIN, PLAIN)
def test_plain_values_collide_only_when_equal(a, b):
    assert (content_key(a) == content_key(b)) == (_shape_of(a) == _shape_of(b))


@settings(max_examples=60, deadline=None)
@given(hnp.arrays(st.sampled_from(["f4", "i2", "?", "c8"]), hnp.array_shapes(max_dims=3, min_side=0)), st.data())
def test_arrays_match_their_copies_and_differ_after_a_change(array, data):
    key = content_key(array)
    assert key == content_key(array.copy(order="F")) == content_key(array.astype(array.dtype.newbyteorder(">")))
    assert key != content_key(array[None])
    if array.size:
        changed = array.copy()
        position = data.draw(st.integers(0, array.size - 1))
        changed.flat[position] = 0 if changed.flat[position] == 1 else 1
        assert content_key(changed) != key


def test_pandas_and_trees():
    frame = pd.DataFrame({"onset": [0.5, 1.0], "trial_type": ["a", None]})
    assert content_key(frame) == content_key(frame.copy())
    assert content_key(frame) != content_key(frame.assign(onset=[0.5, 1.1]))
    tree = xr.DataTree.from_dict({"/a": table()})
    assert content_key(tree) == content_key(tree.copy(deep=True))
    assert content_key(tree) != content_key(xr.DataTree.from_dict({"/b": table()}))


@pytest.mark.parametrize("thing", [len, object(), open, np.array([object()])])
def test_what_has_no_content_is_refused(thing):
    with pytest.raises(ConfigError):
        content_key(thing)


def test_a_path_is_refused_because_it_is_not_content(tmp_path):
    with pytest.raises(ConfigError, match="sha256_file"):
        content_key(tmp_path)


def test_sha256_of_a_file(tmp_path):
    (tmp_path / "f").write_bytes(b"x" * 3_000_000)
    assert sha256_file(tmp_path / "f") == hashlib.sha256(b"x" * 3_000_000).hexdigest()
