import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuroalign.storage.layout import chunk_shape, shard_shape, tiles_of


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(1, 15)), min_size=1, max_size=3),
    st.sampled_from([1, 8, 1 << 18]),
)
def test_tiles_cover_every_element_once_and_start_on_units(pairs, itemsize):
    shape, unit = tuple(n for n, _ in pairs), tuple(u for _, u in pairs)
    count = np.zeros(shape, int)
    for tile in tiles_of(shape, unit, itemsize):
        count[tile] += 1
        assert all(s.start % u == 0 for s, u in zip(tile, unit, strict=True))
    assert (count == 1).all()


@pytest.mark.parametrize(
    ("dims", "shape", "attrs", "expected"),
    [
        (("channel", "time"), (128, 38400), {"sfreq": 128.0}, (128, 256)),
        (("channel", "time"), (3, 20), {"sfreq": 128.0}, (3, 20)),
        (("channel", "time"), (306, 10**6), {"sfreq": "damaged"}, (306, 2048)),
        (("stimulus", "unit"), (10000, 4096), {}, (256, 4096)),
        (("time", "voxel"), (600, 50000), {}, (600, 4096)),
        ((), (), {}, ()),
        (("k",), (0,), {}, (1,)),
    ],
)
def test_chunks_follow_the_meaning_of_dimensions(dims, shape, attrs, expected):
    assert chunk_shape(dims, shape, 4, attrs) == expected


def test_no_chunk_is_huge():
    chunks = chunk_shape(("time", "k", "j", "i"), (2000, 90, 109, 91), 4, {})
    assert np.prod(chunks) * 4 <= 64 << 20
    assert chunks[1:] == (90, 109, 91)


def test_shards_are_whole_chunks_and_only_for_long_recordings():
    attrs = {"sfreq": 1000.0}
    chunks = chunk_shape(("channel", "time"), (128, 3_600_000), 4, attrs)
    shards = shard_shape(("channel", "time"), (128, 3_600_000), chunks, 4, attrs)
    assert shards is not None
    assert shards[1] % chunks[1] == 0
    assert np.prod(shards) * 4 <= 64 << 20
    assert shard_shape(("stimulus", "unit"), (10000, 4096), (256, 4096), 4, {}) is None
    assert shard_shape(("channel", "time"), (3, 20), (3, 20), 4, {}) is None
