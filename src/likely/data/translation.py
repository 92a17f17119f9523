"""Two data sets whose rows do not belong together, as one."""

from typing import Any

import numpy as np

from likely.core.errors import DataError
from likely.data.dataset import Data, Split
from likely.data.load import load_data


def unpaired(a: Any, b: Any, *, seed: int = 0, **options: Any) -> Data:
    """Rows of b, each with some row of a as its context: data for a translation without pairs.

    Both are shuffled, so that rows that stand side by side in their sources are no pairs here. Of the
    training rows all are used, and those of the smaller set repeated; the other splits have as many
    rows as the smaller.

    Parameters
    ----------
    a, b : Data, or anything that `load_data` reads
        What is translated, and into what; contexts and weights of theirs are left out.
    seed : int
        Of the splits and of the order.
    **options
        Options of `load_data`, for both; `domain` is that of b, and `context_domain` that of a.

    Returns
    -------
    Data

    Raises
    ------
    DataError
        As `load_data` does, with the name of the source; or if a split of one has no rows.

    Examples
    --------
    >>> import likely as lk
    >>> data = lk.unpaired("digits", "sprites")
    >>> str(data.domain), str(data.context)
    ('32×32 image of binary', '8×8 image of integer')
    """
    domains = options.pop("context_domain", None), options.pop("domain", None)
    sets = [
        source
        if isinstance(source, Data)
        else load_data(source, domain=domain, seed=seed, **options)
        for source, domain in zip((a, b), domains, strict=True)
    ]
    rng = np.random.default_rng(seed)
    splits: dict[str, Any] = {}
    for name in ("train", "valid", "test"):
        parts = [getattr(data, name) for data in sets]
        for data, part in zip(sets, parts, strict=True):
            if not len(part):
                raise DataError(f"{data.name}: the {name} split has no rows")
        n = (max if name == "train" else min)(map(len, parts))
        context, x = (
            part.x[
                np.concatenate([rng.permutation(len(part)) for _ in range(-(-n // len(part)))])[:n]
            ]
            for part in parts
        )
        splits[name] = Split(x, context)
    (source, target), names = sets, [data.name for data in sets]
    return Data(
        target.domain, **splits, context=source.domain, name=" → ".join(dict.fromkeys(names))
    )
