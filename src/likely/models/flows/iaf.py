"""Inverse autoregressive flow: a masked autoregressive flow, the other way round."""

from likely.contract import register
from likely.models.flows.maf import MAF


@register(
    "iaf",
    title="inverse autoregressive flow",
    density="exact; lower bound on integers",
    constraint="invertible; triangular Jacobian; sampled in one pass, density entry by entry",
    paper="Kingma et al. 2016, arXiv:1606.04934",
)
class IAF(MAF):
    """Inverse autoregressive flow: sampling is fast, the density of data goes entry by entry.

    The layers of `MAF` run from the base to the data. Training on data solves every layer for its
    input at each step, which takes as many steps as there are columns; where samples need not be
    fast, `MAF` trains sooner. Parameters are those of `MAF`.

    Examples
    --------
    >>> import likely as lk
    >>> data = lk.load_data("moons")
    >>> model = lk.flows.IAF(data.domain, transforms=3)
    >>> history = lk.fit(model, data, steps=100)
    >>> model.sample(5, seed=1).shape
    torch.Size([5, 2])
    """

    samples_in_one_pass = True
