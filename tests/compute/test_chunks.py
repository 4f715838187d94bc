import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuroalign.compute import spawn_seeds, tiles
from neuroalign.errors import ConfigError


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 200), st.none() | st.integers(1, 250))
def test_tiles_cover_everything_once(n, size):
    pieces = tiles(n, size)
    assert [k for piece in pieces for k in range(n)[piece]] == list(range(n))
    assert all(0 < piece.stop - piece.start <= (size or n) for piece in pieces)


def test_a_tile_needs_an_element():
    with pytest.raises(ConfigError):
        tiles(3, 0)


def _draws(seeds):
    return [np.random.default_rng(seed).integers(1 << 62) for seed in seeds]


def test_seeds_depend_on_state_and_position_only():
    assert _draws(spawn_seeds(3, 5))[:2] == _draws(spawn_seeds(3, 2))
    assert len(set(_draws(spawn_seeds(3, 50)) + _draws(spawn_seeds(4, 50)))) == 100
    assert _draws(spawn_seeds(np.random.default_rng(3), 4)) == _draws(spawn_seeds(3, 4))
    assert _draws(spawn_seeds(None, 2)) != _draws(spawn_seeds(None, 2))


def test_a_generator_moves_on():
    rng = np.random.default_rng(0)
    assert _draws(spawn_seeds(rng, 2)) != _draws(spawn_seeds(rng, 2))


@pytest.mark.parametrize("seed", [-1, "a", 1.5])
def test_bad_seed(seed):
    with pytest.raises(ConfigError, match="seed"):
        spawn_seeds(seed, 2)
