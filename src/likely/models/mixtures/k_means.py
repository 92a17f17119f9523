"""k-means, as a start for mixtures.

Arthur & Vassilvitskii 2007, "k-means++: the advantages of careful seeding".
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import one_hot


def k_means(
    z: Float[Tensor, "n d"], weight: Float[Tensor, " n"], k: int, passes: int = 10
) -> tuple[Float[Tensor, "k d"], Float[Tensor, " n"]]:
    """Centres by greedy k-means++, then by k-means.

    k-means++ draws a few rows with a chance in proportion to their squared distance from the centres
    so far, and takes the one that brings the rows closest.

    Parameters
    ----------
    z : Tensor, shape (n, d)
    weight : Tensor, shape (n,)
        Non-negative, not all zero.
    k : int
        Number of centres; where there are fewer different rows, some are equal.
    passes : int
        Of k-means.

    Returns
    -------
    centres : Tensor, shape (k, d)
    distance : Tensor, shape (n,)
        Squared, of each row from the nearest centre.
    """
    centres = z[torch.multinomial(weight, 1)]
    nearest = torch.cdist(centres, z)[0].square()
    for _ in range(k - 1):
        chance = weight * nearest.clamp_min(1e-12)  # above 0 if centres outnumber different rows
        drawn = z[torch.multinomial(chance, 2 + int(math.log(k)), replacement=True)]
        distance = torch.cdist(drawn, z).square().minimum(nearest)
        best = (distance @ weight).argmin()
        centres, nearest = torch.cat([centres, drawn[best, None]]), distance[best]
    for _ in range(passes):
        member = one_hot(torch.cdist(z, centres).argmin(1), k).mT * weight
        count = member.sum(1, keepdim=True)
        centres = torch.where(count > 0, member @ z / count, centres)
    return centres, torch.cdist(z, centres).amin(1).square()
