"""What a step can be told: one validated model a step, shared by the command line and by recipes."""

from __future__ import annotations

import difflib
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from neuroalign.errors import ConfigError

Window = Annotated[tuple[float, float], Field(description="first and last second")]


class Options(BaseModel):
    """What every step shares."""

    model_config = ConfigDict(extra="forbid", strict=False, frozen=True)

    out: str
    seed: int = Field(0, ge=0)
    alpha: float = Field(0.05, gt=0, lt=1)
    overwrite: bool = False

    @classmethod
    def parse(cls, values: dict[str, Any], *, where: str = "options", lines: dict[str, int] | None = None) -> Self:
        """Validate values, or raise a `ConfigError` that names the option, its line and the nearest known name."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            name = str(first["loc"][0]) if first["loc"] else ""
            line = f", line {lines[name]}" if lines and name in lines else ""
            near = difflib.get_close_matches(name, cls.model_fields, n=1)
            unknown = first["type"] == "extra_forbidden"
            raise ConfigError(
                f"Unknown option {name!r}." if unknown else f"Option {name!r} is not valid: {first['msg']}.",
                expected=", ".join(cls.model_fields) if unknown else None,
                got=None if first["type"] == "missing" else first.get("input"),
                where=where + line,
                fix=f"did you mean {near[0]!r}?" if unknown and near else None,
            ) from None


class ModelOptions(Options):
    """What encoding and decoding share."""

    features: str
    responses: str
    against: str | None = None
    groups: str | None = None
    folds: int | None = Field(None, ge=2)
    lags: Window | None = None
    window: Window | None = None
    bandpass: Window | None = None
    resample: float | None = Field(None, gt=0)
    modality: Literal["eeg", "ieeg", "meg", "fmri"] | None = None
    scorer: Literal["r2", "r", "ev"] | None = None
    permutations: int = Field(1000, ge=0)
    reorder: bool = False
    drop: bool = False

    @model_validator(mode="after")
    def _windows(self) -> Self:
        for name in ("lags", "window", "bandpass"):
            value = getattr(self, name)
            if value is not None and value[0] >= value[1]:
                raise ValueError(f"{name} must go from a smaller to a larger number")
        return self


class EncodeOptions(ModelOptions):
    """From features to responses."""

    delays: tuple[int, ...] | None = None
    ceiling: Literal["repeats", "split_half_sb", "explainable_variance"] | None = None
    by: str | None = None

    @model_validator(mode="after")
    def _one_kind_of_lag(self) -> Self:
        if self.lags is not None and self.delays is not None:
            raise ValueError("give lags (seconds, for sensors) or delays (samples, for fMRI), not both")
        return self


class DecodeOptions(ModelOptions):
    """From responses to features."""


class RSAOptions(Options):
    """From model RDMs or features, and measured RDMs or responses, to scores."""

    models: str
    data: str
    compare: str = "rho-a"
    method: str = "correlation"
    bootstrap: Literal["conditions", "subjects", "both"] = "both"
    samples: int = Field(1000, ge=10)
