"""Numbers that were written for people: with separators, units, signs of currency."""

from __future__ import annotations

import re

import pandas as pd

SPACES = "\u0020\u00a0\u2009\u202f'’"  # which group digits
WRITTEN = re.compile(
    rf"(?P<before>[+-]?\s*[$€£¥₹]?)\s*(?P<number>[+-]?(?:\d[\d.,{SPACES}]*|[.,]\d+))(?P<exponent>[eEdD][+-]?\d+)?"
    rf"\s*(?P<unit>[%‰$€£¥₹]|[A-Za-zµμΩÅ°][A-Za-zµμΩÅ°/·^²³⁻0-9]*)?"
)
GROUPED = rf"\d{{1,3}}(?:[{SPACES}]\d{{3}})+"
POINT = re.compile(rf"[+-]?(?:\d+|\d{{1,3}}(?:,\d{{3}})+|{GROUPED})?(?:\.\d*)?")  # 1,234.5
COMMA = re.compile(rf"[+-]?(?:\d+|\d{{1,3}}(?:\.\d{{3}})+|{GROUPED})?(?:,\d*)?")  # 1.234,5
DATE = re.compile(
    r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}([T ].*)?|\d{1,2}[-/.]\d{1,2}[-/.](\d{2}|\d{4})([T ].*)?"
    r"|\d{1,2}:\d{2}(:\d{2}.*)?|\d{1,2}[- ][A-Za-z]{3,9}[- ]\d{2,4}.*"
)


class Ambiguous(ValueError):
    """The texts are numbers, but it is not certain which."""


def read_numbers(texts: pd.Series) -> tuple[pd.Series, str] | None:
    """The numbers that texts stand for, and how they were read; None if they are no numbers.

    Raises
    ------
    Ambiguous
        If all texts are numbers that can be read in two ways, or have different units.
    """
    tidy = texts.astype(str).str.strip().str.replace("−", "-")
    parts = tidy.str.extract(rf"^{WRITTEN.pattern}$")
    if parts["number"].isna().any():
        return None
    numbers = parts["number"].str.rstrip(SPACES)
    point, comma = (numbers.map(form.fullmatch).notna().all() for form in (POINT, COMMA))
    if not (point or comma):
        return None
    units = set(
        parts["unit"].fillna("").where(parts["unit"].notna(), parts["before"].str.strip(" +-"))
    )
    if len(units) > 1:
        if units - set("%‰$€£¥₹") - {""} and len(units) > 8:
            return None  # codes such as 12A
        raise Ambiguous(
            f"has numbers with different units ({', '.join(map(repr, sorted(units)[:5]))})"
        )
    commas = numbers.str.contains(",", regex=False)
    if point and comma and commas.any():
        example = numbers[commas].iloc[0]
        raise Ambiguous(
            f"has numbers such as {example!r}, which may be {example.replace(',', '')} or "
            f"{example.replace(',', '.')}"
        )
    separator, decimal = (",", ".") if point else (".", ",")
    plain = numbers.str.replace(rf"[{SPACES}{re.escape(separator)}]", "", regex=True)
    plain = plain.str.replace(decimal, ".", regex=False)
    sign = parts["before"].str.contains("-", regex=False).map({True: -1.0, False: 1.0})
    exponent = parts["exponent"].fillna("").str.replace("[dD]", "e", regex=True)
    values = sign * pd.to_numeric(plain + exponent)
    return values, f"{texts.iloc[0]!r} is read as {values.iloc[0]:g}"


def are_dates(texts: pd.Series) -> bool:
    """Whether texts are dates or times of day."""
    return bool(texts.astype(str).str.strip().map(DATE.fullmatch).notna().all())
