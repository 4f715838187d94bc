"""Units: what we accept, their SI form, and the range in which each kind of recording is plausible."""

from __future__ import annotations

from neuroalign.errors import SchemaError

_PREFIX = {"": 1.0, "m": 1e-3, "u": 1e-6, "µ": 1e-6, "μ": 1e-6, "n": 1e-9, "p": 1e-12, "f": 1e-15, "k": 1e3}

#: Accepted unit -> (SI unit, factor from the accepted unit to SI).
UNITS: dict[str, tuple[str, float]] = {
    **{f"{p}{u}": (u, f) for u in ("V", "T", "s", "S", "A") for p, f in _PREFIX.items()},
    **{f"{p}T/m": ("T/m", f) for p, f in _PREFIX.items()},
    **{f"{p}T/cm": ("T/m", f * 100) for p, f in _PREFIX.items()},
    "m": ("m", 1.0),
    "cm": ("m", 1e-2),
    "mm": ("m", 1e-3),
    "Hz": ("Hz", 1.0),
    "kHz": ("Hz", 1e3),
    "rad": ("rad", 1.0),
    "C": ("C", 1.0),
    "V²/Hz": ("V²/Hz", 1.0),
    "%": ("%", 1.0),  # percent signal change
    "z": ("z", 1.0),  # standard deviations
    "1": ("1", 1.0),  # a pure number
    "a.u.": ("a.u.", 1.0),  # scanner or network units without a physical scale
}

#: Channel type -> (SI unit, smallest, largest plausible RMS about the mean), used by `validate`.
BANDS: dict[str, tuple[str, float, float]] = {
    "eeg": ("V", 1e-7, 1e-3),
    "seeg": ("V", 1e-7, 1e-2),
    "ecog": ("V", 1e-7, 1e-2),
    "dbs": ("V", 1e-7, 1e-2),
    "mag": ("T", 1e-15, 1e-11),
    "ref_meg": ("T", 1e-15, 1e-8),
    "grad": ("T/m", 1e-14, 1e-9),
}


def to_si(units: str) -> tuple[str, float]:
    """Give the SI unit and the factor that leads to it.

    Parameters
    ----------
    units : str
        For example ``"uV"``, ``"fT/cm"``, ``"ms"``, ``"%"``.

    Returns
    -------
    si_units : str
        The SI unit, or the unit itself where there is none (``"%"``, ``"z"``, ``"1"``, ``"a.u."``).
    factor : float
        Multiply values by this to reach SI.

    Raises
    ------
    SchemaError
        If the unit is unknown.

    Examples
    --------
    >>> to_si("uV")
    ('V', 1e-06)
    """
    try:
        return UNITS[str(units).strip()]
    except KeyError:
        raise SchemaError(
            "Unknown unit.",
            expected="V, T, T/m, s, m, Hz (with m, u, n, p, f, k), %, z, 1 or a.u.",
            got=str(units) or "an empty string",
            fix="pass the unit of the values, for example units='uV'",
        ) from None
