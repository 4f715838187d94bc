"""The data model: names, units, constructors, validation, provenance and the ``.neuro`` accessor.

Everything is a plain `xarray.Dataset` or `xarray.DataArray`; this package says what their dimensions,
coordinates and attributes are called, and checks that they are so.
"""

from neuroalign.schema._accessor import NeuroAccessor, view
from neuroalign.schema._build import epochs, features, sensors, stimulus_table
from neuroalign.schema._build_fmri import affine, fmri_masked, fmri_regions, fmri_volume
from neuroalign.schema._build_spikes import spike_counts, spikes
from neuroalign.schema._build_surface import fmri_grayordinates, fmri_surface, label_maps, maps, surface_mesh
from neuroalign.schema._clock import clock, time_index, to_samples
from neuroalign.schema._names import (
    MODALITIES,
    RUN_NAMES,
    SAMPLE_DIMS,
    SENSOR_MODALITIES,
    TRAVELLING,
    modality_of,
    sample_dim,
    travel,
)
from neuroalign.schema._provenance import history, inherit, log, stamp
from neuroalign.schema._units import BANDS, UNITS, to_si
from neuroalign.schema._validate import validate

__all__ = [
    "BANDS",
    "MODALITIES",
    "RUN_NAMES",
    "SAMPLE_DIMS",
    "SENSOR_MODALITIES",
    "TRAVELLING",
    "UNITS",
    "NeuroAccessor",
    "affine",
    "clock",
    "epochs",
    "features",
    "fmri_grayordinates",
    "fmri_masked",
    "fmri_regions",
    "fmri_surface",
    "fmri_volume",
    "history",
    "inherit",
    "label_maps",
    "log",
    "maps",
    "modality_of",
    "sample_dim",
    "sensors",
    "spike_counts",
    "spikes",
    "stamp",
    "stimulus_table",
    "surface_mesh",
    "time_index",
    "to_samples",
    "to_si",
    "travel",
    "validate",
    "view",
]
