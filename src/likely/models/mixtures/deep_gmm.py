"""Deep Gaussian mixture, fitted by exact EM.

Factor analysers whose factors come from factor analysers, and so on: in layer l = 1 … L

    z_{l−1} = η_s + Λ_s z_l + u_s,    u_s ~ N(0, Ψ_s),    s = s_l with probability π_s,

from the data z_0 = x to z_L ~ N(0, 1), with s_1 … s_L independent. Given the path s = (s_1 … s_L)
everything is Gaussian, so that x has a mixture of Π_l k_l Gaussians

    m_{l−1} = η_s + Λ_s m_l      C_{l−1} = Λ_s C_l Λ_sᵀ + Ψ_s      m_L = 0,  C_L = 1

which share their parameters. The density is exact, and so is the E-step, path by path: the moments of
z_1 are sums over the rows, and since E[z_l | x, s] is linear in z_{l−1}, those of each layer follow
from those of the layer below. The M-step is that of a mixture of factor analysers in each layer.

Viroli & McLachlan 2017, "Deep Gaussian mixture models", arXiv:1711.06929, eqs. 2 to 5. There the E-step
draws the factors; here nothing is drawn, at a cost in proportion to the number of paths.
"""

import math
from collections.abc import Iterable
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from likely.contract import Rows, Widths, register
from likely.core.domain import Domain
from likely.core.errors import LikelyError
from likely.models.mixtures.analysers import Analysers, Layer
from likely.models.mixtures.em import GaussianPaths
from likely.models.mixtures.mfa import MixtureOfFactorAnalysers

MAX_PATHS = 500
DEEP_START_ROWS, START_PASSES = 1 << 14, 30  # of EM for each layer alone


@register(
    "deep-gmm",
    title="deep Gaussian mixture",
    density="exact; lower bound on integers",
    constraint="many Gaussians, which share their parameters layer by layer",
    paper="Viroli & McLachlan 2017, arXiv:1711.06929",
)
class DeepGaussianMixture(MixtureOfFactorAnalysers):
    """Deep Gaussian mixture over the real view of a domain, fitted by exact EM.

    Parameters
    ----------
    domain : Domain
        Without periodic columns: a Gaussian is not continuous across the seam.
    components : sequence of int
        Number of components k_l of each layer, the one next to the data first; their product, the
        number of paths, is at most 500.
    factors : sequence of int
        Number of factors of each layer, as many as `components`; where the layer below has fewer, as
        many as that.
    noise : {"diagonal", "isotropic"}
        Whether each column has its own noise in each component, or all have the same.
    floor, tolerance : float
        As in `MixtureOfFactorAnalysers`; the floor holds in each layer.

    Raises
    ------
    DomainError
        If the domain has periodic or categorical columns.
    LikelyError
        If an option is out of range, the two sequences differ in length, or there are too many paths.

    Examples
    --------
    >>> import likely as lk
    >>> data = lk.load_data("digits")
    >>> model = lk.mixtures.DeepGaussianMixture(data.domain, components=(3, 2), factors=(4, 2))
    >>> history = lk.fit(model, data, epochs=3, seed=0)
    >>> model.responsibilities(data.test.x, seed=0).shape  # of the components of both layers
    torch.Size([179, 3, 2])
    """

    def __init__(
        self,
        domain: Domain,
        *,
        components: Widths = (5, 3),
        factors: Widths = (8, 4),
        **options: Any,
    ) -> None:
        if len(components) != len(factors):
            raise LikelyError(
                f"DeepGaussianMixture: components={components!r}, factors={factors!r}: give one number "
                "for each layer, in both"
            )
        if (paths := math.prod(components)) > MAX_PATHS:
            raise LikelyError(
                f"DeepGaussianMixture: components={components!r} make {paths} paths, and exact EM visits "
                f"them all: take fewer components or layers, for at most {MAX_PATHS}"
            )
        super().__init__(domain, components=components[0], factors=factors[0], **options)
        self.paths = paths
        self.above = nn.ModuleList()
        for k, q in zip(components[1:], factors[1:], strict=True):
            d = self.layers[-1].factors
            self.above.append(Layer(k, d, min(q, d), self.layer.isotropic, self.floor))

    @property
    def layers(self) -> list[Layer]:
        """From the data upwards."""
        return [self.layer, *cast(Iterable[Layer], self.above)]

    def _analysers_above(self) -> list[Analysers]:
        """Of the layers above the first, each with those above it as its prior."""
        found: list[Analysers] = []
        for layer in reversed(self.layers[1:]):
            found.insert(0, layer.analysers(found[0].marginal() if found else None))
        return found

    def _prior(self) -> GaussianPaths | None:
        above = self._analysers_above()
        return above[0].marginal() if above else None

    def _draw_factors(self, n: int) -> Float[Tensor, "n q"]:
        z = torch.randn(n, self.layers[-1].factors, dtype=torch.float64, device=self.device)
        for layer in reversed(self.layers[1:]):
            z = layer.analysers().sample(z)
        return z

    def responsibilities(
        self, x: Rows, *, seed: int | None = None
    ) -> Float[Tensor, "n *components"]:
        """Probability of each path given each row; summed over other layers, of a layer's components.

        Parameters and errors are those of `Mixture.responsibilities`.
        """
        sizes = [len(layer.means) for layer in self.layers]
        return super().responsibilities(x, seed=seed).unflatten(1, sizes)

    def _start(self, z: Tensor, weight: Tensor) -> None:
        """Layer by layer: a mixture of factor analysers, whose factors are the next one's rows."""
        z, weight = z[:DEEP_START_ROWS].double(), weight[:DEEP_START_ROWS].double()
        for layer in self.layers:
            layer.fit(z, weight, START_PASSES, self._block)
            _, z = layer.analysers().infer(z)

    def _maximisation(self, moments: list[Tensor]) -> None:
        above, second = self._analysers_above(), moments[0]
        super()._maximisation(moments)
        for layer, analysers in zip(self.layers[1:], above, strict=True):
            second, cross, square = analysers.moments_above(second.sum(0))
            layer.maximise(second.sum(1), cross, square)
