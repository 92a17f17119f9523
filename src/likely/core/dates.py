"""Dates and times as numbers since 1970-01-01 in UTC, and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from likely.core.columns import FAR_TIME, Date

ISO = r"\s*\d{4}-\d{1,2}-\d{1,2}(?:[T ].*)?"


def date_kind(series: pd.Series) -> Date | None:
    """The kind of a column that holds dates or ISO texts of them, for the most part; None of another.

    Its unit is a day where no date has a time of day, and otherwise a second.
    """
    if pd.api.types.is_numeric_dtype(series) or not len(series):
        return None
    dates = pd.api.types.is_datetime64_any_dtype(series)
    if not (dates or series.astype(str).str.fullmatch(ISO).mean() > 0.5):
        return None
    times = read_times(series).dropna()
    return Date("days" if (times == times.dt.normalize()).all() else "seconds")


def read_times(series: pd.Series) -> pd.Series:
    """Times in UTC; NaT where an entry is missing, or is no date in ISO's form."""
    if pd.api.types.is_datetime64_any_dtype(series):
        return series if series.dt.tz is None else series.dt.tz_convert("UTC").dt.tz_localize(None)
    texts = series.astype(str).str.strip()
    return pd.to_datetime(texts, format="ISO8601", errors="coerce", utc=True).dt.tz_localize(None)


def to_numbers(series: pd.Series, kind: Date) -> np.ndarray:
    """Numbers in float64 for dates, texts of them, or numbers; NaN where an entry is none of these."""
    if pd.api.types.is_numeric_dtype(series):
        return series.to_numpy(np.float64, na_value=np.nan)
    since = read_times(series) - pd.Timestamp(0)
    return (since / pd.Timedelta(seconds=kind.seconds)).to_numpy(np.float64)


def to_times(values: np.ndarray, kind: Date, dtype: Any = None) -> pd.Series:
    """Whole days or seconds as dates, of the type that they had where that is one of dates."""
    seconds = np.clip(np.rint(values) * kind.seconds, -FAR_TIME, FAR_TIME)
    whole = np.where(np.isnan(seconds), 0, seconds).astype(np.int64)
    times = pd.Series(whole.astype("datetime64[s]")).mask(np.isnan(seconds))
    if not str(dtype).startswith("datetime64"):
        return times
    try:
        return (
            times.astype(dtype)
            if "," not in str(dtype)
            else times.dt.tz_localize("UTC").astype(dtype)
        )
    except pd.errors.OutOfBoundsDatetime:  # it reaches fewer years
        return times
