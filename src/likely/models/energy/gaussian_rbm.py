"""Restricted Boltzmann machine with Gaussian visible units, a mixture of exponentially many Gaussians."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from likely.contract import LOG_TWO_PI, Batch, RealView, Recipe, register
from likely.core.columns import Constant, Interval, Positive, Real
from likely.models.energy.boltzmann import Beta
from likely.models.energy.rbm import RBM


@register(
    "gaussian-rbm",
    title="restricted Boltzmann machine with Gaussian visible units",
    density="exact up to 20 hidden units, else an estimate",
    constraint="a product of experts on one diagonal covariance; samples come from Markov chains",
    paper="Cho, Ilin & Raiko 2011; Melchior, Wang & Wiskott 2017",
)
class GaussianRBM(RBM):
    """Restricted Boltzmann machine with Gaussian visible and binary hidden units.

        E(v, h) = Σ_i (v_i − a_i)²/2σ_i² − bᵀh − (v/σ²)ᵀW h

    over the real view of the domain: a mixture of 2^hidden Gaussians N(a + W h, σ²), whose weights
    follow from the parameters. Beside those of `RBM` there is `log_variance`, log σ².

    Parameters
    ----------
    domain : Domain
        Of real, positive or bounded columns.
    hidden, negatives, k, temperatures, centred, sparsity, activity, sample_steps
        As in `RBM`.

    References
    ----------
    Cho, Ilin & Raiko 2011, "Improved learning of Gaussian–Bernoulli restricted Boltzmann machines"
    (the energy, and log σ² as a parameter).
    """

    accepts = frozenset({Real, Positive, Interval, Constant})
    of_one_kind = False
    default_hidden = 16  # so that the density is exact
    recipe = Recipe(batch=100, rate=5e-3, clip=100.0, steps=20_000)

    def _visible_units(self) -> int:
        self.view = RealView(self.domain)
        self.log_variance = nn.Parameter(torch.zeros(self.view.dim))
        return self.view.dim

    def _units(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.view(x)

    def _rows(self, v: Tensor) -> Tensor:
        return self.view.inverse(v)

    _expected_rows = _rows

    # At β the base, N(0, 1) for each unit, still has a part 1 − β in the exponent.

    def _precision(self, beta: Beta) -> Tensor:
        return torch.lerp(torch.ones_like(self.log_variance), (-self.log_variance).exp(), beta)

    def _statistic(self, v: Tensor) -> Tensor:
        return v * (-self.log_variance).exp()

    def _visible_energy(self, v: Tensor, beta: Beta) -> Tensor:
        own = (v - self.visible_bias).square() * (-self.log_variance).exp()
        return torch.lerp(v.square(), own, beta).sum(-1) / 2

    def _visible_input(self, h: Tensor, beta: Beta) -> Tensor:
        mean = torch.addmm(self.visible_bias, h, self.weight.T)
        return beta * mean * (-self.log_variance).exp()

    def _visible_partition(self, u: Tensor, beta: Beta) -> Tensor:
        precision = self._precision(beta)
        own = beta * self.visible_bias.square() * (-self.log_variance).exp()
        return (u.square() / precision - own + LOG_TWO_PI - precision.log()).sum(-1) / 2

    def _visible_expected(self, u: Tensor, beta: Beta) -> Tensor:
        return u / self._precision(beta)

    def _visible_draw(self, u: Tensor, beta: Beta) -> Tensor:
        precision = self._precision(beta)
        return u / precision + torch.randn_like(u) * precision.rsqrt()

    @property
    def enumerated(self) -> int:
        return len(self.hidden_bias)

    @torch.no_grad()
    def prepare(self, batch: Batch) -> None:
        """Take the scales of the columns, and start where hidden units explain a part of them.

        Weights of 0 would be a saddle: they have the data's variances, and nothing draws them away.
        By symmetry each hidden unit is 1 half of the time.
        """
        self.domain.check(batch.x)
        self.view.prepare(batch.x, batch.weight)
        super(RBM, self).prepare(batch)
        self.visible_mean.zero_()
        nn.init.normal_(self.weight, std=len(self.hidden_bias) ** -0.5)
        self.visible_bias.copy_(-self.weight.sum(1) / 2)
        self.log_variance.fill_(math.log(0.75))

    @property
    def _trained(self) -> tuple[nn.Parameter, ...]:
        return *super()._trained, self.log_variance

    def _gradients(
        self, c: Float[Tensor, " n"], v: Tensor, p: Tensor, mu: Tensor, lam: Tensor
    ) -> tuple[Tensor, ...]:
        own = (v - self.visible_bias).square() * (-self.log_variance).exp() / 2
        d_log_variance = (own - self._statistic(v) * (p @ self.weight.T)).T @ c
        return *super()._gradients(c, v, p, mu, lam), d_log_variance
