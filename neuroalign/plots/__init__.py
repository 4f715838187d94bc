"""Pictures of recordings, scores and models: labelled values in, matplotlib Axes out.

Every function takes a DataArray (or the Dataset of an evaluation), draws on the axes passed as ``ax=`` or on a new
figure, and returns the axes. Nothing here changes matplotlib's state or backend.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from neuroalign.plots._auto import auto
from neuroalign.plots.bars import bars
from neuroalign.plots.bold import carpet, mean_epi, parcellation
from neuroalign.plots.montage import electrodes, layout
from neuroalign.plots.partitions import heat_map, venn_bars
from neuroalign.plots.rdms import rdm, rdm_grid
from neuroalign.plots.recordings import butterfly, traces
from neuroalign.plots.rsa import rsa_bars
from neuroalign.plots.scores import alphas, distribution, layer_profile, score_vs_ceiling
from neuroalign.plots.sensors import topomap
from neuroalign.plots.timecourses import response_function, timecourse
from neuroalign.plots.trials import erp_image
from neuroalign.plots.volumes import brain

#: The pictures by name.
PLOTS: dict[str, Callable[..., Any]] = {
    "alphas": alphas,
    "auto": auto,
    "bars": bars,
    "brain": brain,
    "butterfly": butterfly,
    "carpet": carpet,
    "distribution": distribution,
    "electrodes": electrodes,
    "erp_image": erp_image,
    "heat_map": heat_map,
    "layout": layout,
    "layer_profile": layer_profile,
    "mean_epi": mean_epi,
    "parcellation": parcellation,
    "rdm": rdm,
    "rdm_grid": rdm_grid,
    "rsa_bars": rsa_bars,
    "response_function": response_function,
    "score_vs_ceiling": score_vs_ceiling,
    "timecourse": timecourse,
    "topomap": topomap,
    "traces": traces,
    "venn_bars": venn_bars,
}

__all__ = ["PLOTS", *PLOTS]  # noqa: PLE0604
