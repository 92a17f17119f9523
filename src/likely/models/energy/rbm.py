"""Restricted Boltzmann machine, trained by contrastive divergence and its relatives.

Visible units v and binary hidden units h, without connections inside either layer:

    E(v, h) = −aᵀv − bᵀh − vᵀW h,      F(v) = −log Σ_h e^(−E) = −aᵀv − Σ_j softplus(b_j + (Wᵀv)_j)

The gradient of the mean negative log-likelihood is that of F at the data minus that of F at draws of the
model, so that with p = σ(b + Wᵀv)

    −∂/∂W = ⟨v pᵀ⟩_data − ⟨v pᵀ⟩_model      −∂/∂a = ⟨v⟩_data − ⟨v⟩_model      −∂/∂b = ⟨p⟩_data − ⟨p⟩_model.

Draws come from k block Gibbs steps, which start at the data (contrastive divergence, Hinton 2002), where
they ended at the last update (persistent, Tieleman 2008), or there with replicas down to β = 0 that swap
states (Desjardins et al. 2010). The centred gradient (Montavon & Müller 2012; Melchior, Fischer & Wiskott
2016, arXiv:1311.1354) takes offsets μ and λ, the means under the data, off both layers,

    Δ_W = ⟨(v − μ)(p − λ)ᵀ⟩_data − ⟨…⟩_model      Δ_a = ⟨v⟩_data − ⟨v⟩_model − Δ_W λ
                                                 Δ_b = ⟨p⟩_data − ⟨p⟩_model − Δ_Wᵀ μ,

and so does not depend on which value of a unit is called 1.
"""

from functools import partial
from typing import Annotated, Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from likely.contract import Batch, NonNegative, Range, Recipe, Rows, register
from likely.contract.inputs import accept_inside
from likely.core.columns import Binary, Spin
from likely.core.domain import Domain
from likely.core.runtime import fast_products
from likely.models.energy.boltzmann import Beta, BoltzmannMachine, binary_codes, binary_rows, drawn
from likely.nets.fast import KnownGradients
from likely.sampling.tempering import replica_pairs, swap

Negatives = Literal["cd", "persistent", "tempered"]

# A threshold of 20 would cost float64 half of its digits.
softplus = partial(nn.functional.softplus, threshold=40)

OFFSET_RATE = 0.01  # of the moving mean of the hidden units


def scaled(t: Tensor, beta: Beta) -> Tensor:
    """β t, without a pass where β is 1."""
    return t if isinstance(beta, float) and beta == 1 else beta * t


@register(
    "rbm",
    title="restricted Boltzmann machine",
    density="exact up to 20 units in a layer, else an estimate",
    constraint="no connections inside a layer; samples come from Markov chains",
    paper="Hinton 2002; Tieleman 2008; Melchior et al. 2016, arXiv:1311.1354",
)
class RBM(BoltzmannMachine):
    """Restricted Boltzmann machine with binary units.

    Weight decay is an option of `fit`. There the score of a validation is the mean log-likelihood:
    exact where a layer can be enumerated, and else with a log Z from annealed importance sampling
    with 200 temperatures and 50 chains. That is uncertain by a nat, and too low by some on large
    machines: good enough to see a training go astray, and optimistic as a likelihood.

    Parameters
    ----------
    domain : Domain
        Of binary columns, or of spins.
    hidden : int, optional
        Number of hidden units; by default 128, or 16 next to Gaussian ones.
    negatives : {"cd", "persistent", "tempered"}
        Where the chains start at each update: at the data, where they ended, or there, with
        replicas at other temperatures. There are as many chains as rows in a batch.
    k : int
        Gibbs steps for each update.
    temperatures : int
        Replicas of each tempered chain, evenly from β = 1 to β = 0, where the units are independent.
    centred : bool
        Whether to take the centred gradient.
    sparsity : float
        Weight of a cross-entropy that draws the mean of each hidden unit towards `activity`, by the
        hidden biases only.
    activity : float
        Part of the rows in which a hidden unit is to be on.
    sample_steps : int
        Gibbs steps of a sample, where no layer can be enumerated.

    Raises
    ------
    DomainError
        If the columns are not binary.
    LikelyError
        If an option is out of range.

    Examples
    --------
    >>> import likely as lk
    >>> data = lk.load_data(lk.targets.ising(3, 3).sample(2000, 0), domain=lk.spins(3, 3))
    >>> model = lk.energy.RBM(data.domain, hidden=8)
    >>> history = lk.fit(model, data, steps=200)
    >>> str(model.density)
    'exact'
    """

    accepts = frozenset({Binary, Spin})
    default_hidden = 128
    recipe = Recipe(batch=100, rate=0.1, clip=100.0, optimizer="sgd", steps=20_000)

    def __init__(
        self,
        domain: Domain,
        *,
        hidden: int | None = None,
        negatives: Negatives = "persistent",
        k: int = 5,
        temperatures: Annotated[int, Range(2)] = 10,
        centred: bool = True,
        sparsity: NonNegative = 0.0,
        activity: Annotated[float, Range(0, 1, open="both")] = 0.05,
        **options: Any,
    ) -> None:
        super().__init__(domain, **options)
        hidden = self.default_hidden if hidden is None else hidden
        self.negatives, self.k, self.centred = negatives, k, centred
        self.sparsity, self.activity = sparsity, activity
        visible = self._visible_units()
        self.weight = nn.Parameter(0.01 * torch.randn(visible, hidden))
        self.visible_bias = nn.Parameter(torch.zeros(visible))
        self.hidden_bias = nn.Parameter(torch.zeros(hidden))
        self.visible_mean = nn.Buffer(torch.full((visible,), 0.5))  # μ, and the base's mean
        self.hidden_mean = nn.Buffer(torch.full((hidden,), 0.5))  # λ
        replicas = temperatures if negatives == "tempered" else 1
        self.betas = nn.Buffer(torch.linspace(1, 0, max(2, replicas))[:replicas], persistent=False)
        self._chains: Tensor | None = None  # states of the hidden units, a block for each β

    # Visible units: zeros and ones.

    def _visible_units(self) -> int:
        return self.domain.size

    def _units(self, x: Tensor) -> tuple[Tensor, Tensor]:
        v = binary_codes(self.domain, x, self.weight.dtype)
        return v, v.new_zeros(len(v))

    def _rows(self, v: Tensor) -> Tensor:
        return binary_rows(self.domain, v.long())

    def _bias(self, beta: Beta) -> Tensor:
        """a at β, from the base's: the log-odds of the means."""
        if isinstance(beta, float) and beta == 1:
            return self.visible_bias
        return torch.lerp(self.visible_mean.logit(), self.visible_bias, beta)

    def _statistic(self, v: Tensor) -> Tensor:
        """What of v meets the weights."""
        return v

    def _visible_energy(self, v: Tensor, beta: Beta) -> Tensor:
        """The part of the energy without h."""
        bias = self._bias(beta)
        return -(v @ bias if bias.ndim == 1 else torch.linalg.vecdot(v, bias))

    def _visible_input(self, h: Tensor, beta: Beta) -> Tensor:
        """β W h plus the biases."""
        return torch.addmm(self._bias(beta), scaled(h, beta), self.weight.T)

    def _visible_partition(self, u: Tensor, beta: Beta) -> Tensor:
        """log ∫ dv e^(−E) of an input, without h."""
        return softplus(u).sum(-1)

    def _visible_expected(self, u: Tensor, beta: Beta) -> Tensor:
        return u.sigmoid()

    def _visible_draw(self, u: Tensor, beta: Beta) -> Tensor:
        return drawn(u.sigmoid())

    # Hidden units: zeros and ones.

    def _hidden_partition(self, u: Tensor) -> Tensor:
        """log Σ_h e^(hᵀu)."""
        return softplus(u).sum(-1)

    def _hidden_expected(self, u: Tensor) -> Tensor:
        return u.sigmoid()

    def _hidden_draw(self, p: Tensor) -> Tensor:
        return drawn(p)

    # The same for all units.

    def _field(self, v: Tensor) -> Tensor:
        return torch.addmm(self.hidden_bias, self._statistic(v), self.weight)

    def _free_energy(self, v: Tensor, field: Tensor, beta: Beta = 1.0) -> Tensor:
        return self._visible_energy(v, beta) - self._hidden_partition(scaled(field, beta))

    def _visible_given(self, h: Tensor, beta: Beta = 1.0) -> Tensor:
        return self._visible_draw(self._visible_input(h, beta), beta)

    def _log_given(self, v: Tensor, h: Tensor) -> Float[Tensor, " n"]:
        """log p(v|h)."""
        joint = torch.linalg.vecdot(self._statistic(v), h @ self.weight.T)
        log_z = self._visible_partition(self._visible_input(h, 1.0), 1.0)
        return joint - self._visible_energy(v, 1.0) - log_z

    def _gibbs(self, field: Tensor, beta: Beta) -> Tensor:
        p = self._hidden_expected(scaled(field, beta))
        return self._visible_given(self._hidden_draw(p), beta)

    def _no_hidden(self, n: int) -> Tensor:
        return self.hidden_bias.new_zeros(n, len(self.hidden_bias))

    def _base(self, n: int) -> Tensor:
        return self._visible_given(self._no_hidden(n), 0.0)

    def _log_base(self, v: Tensor) -> Tensor:
        log_z = self._visible_partition(self._visible_input(self._no_hidden(1), 0.0), 0.0)
        return -self._visible_energy(v, 0.0) - log_z

    @property
    def enumerated(self) -> int:
        return min(self.weight.shape)

    @property
    def _sums_visible(self) -> bool:
        return self.enumerated < len(self.hidden_bias)

    def _log_weight(self, states: Tensor) -> Tensor:
        if self._sums_visible:
            return -self._free_energy(states, self._field(states))
        u = self._visible_input(states, 1.0)
        return states @ self.hidden_bias + self._visible_partition(u, 1.0)

    def _given(self, states: Tensor) -> Tensor:
        return states if self._sums_visible else self._visible_given(states)

    # Training.

    @torch.no_grad()
    def prepare(self, batch: Batch) -> None:
        """Start from independent visible units, with the means of the data."""
        self.domain.check(batch.x)
        super().prepare(batch)
        v, _ = self._units(batch.x)
        weight = v.new_ones(len(v)) if batch.weight is None else batch.weight.to(v)
        self.visible_mean.copy_((weight @ v + 0.5) / (weight.sum() + 1))  # never quite 0 or 1
        self.visible_bias.copy_(self.visible_mean.logit())

    def training_state(self) -> dict[str, Any]:
        return {"chains": self._chains}

    def load_training_state(self, state: dict[str, Any]) -> None:
        self._chains = state.get("chains")

    def loss(self, batch: Batch) -> Float[Tensor, " n"]:
        """F of each row minus the mean of F over the chains, which move by k steps.

        The gradient is the one that contrastive divergence follows, centred or not: the chains count
        as fixed.
        """
        exact = torch.autocast(self.device.type, enabled=False)
        with torch.no_grad(), exact, fast_products(self.device):
            v, _ = self._units(batch.x)
            field = self._field(v)
            p = self._hidden_expected(field)
            v_model, field_model, p_model = self._model_draws(p)
            states = torch.cat([v, v_model])
            energy = self._free_energy(states, torch.cat([field, field_model]))
            value = energy[: len(v)] - energy[len(v) :].mean()
            if self.training:
                self._move_offsets(v, p)
        offsets = self.centred * self.visible_mean, self.centred * self.hidden_mean

        def gradients(g: Tensor) -> tuple[Tensor, ...]:
            weight = torch.cat([g, (-g.sum() / len(v_model)).expand(len(v_model))])
            towards = self._gradients(-weight, states, torch.cat([p, p_model]), *offsets)
            if self.sparsity:
                towards[2].add_(self.sparsity * (p - self.activity).T @ g)
            return towards

        return KnownGradients.apply(value, gradients, *self._trained)

    def _move_offsets(self, v: Tensor, p: Tensor) -> None:
        self.hidden_mean.lerp_(p.mean(0), OFFSET_RATE)

    @property
    def _trained(self) -> tuple[nn.Parameter, ...]:
        return self.weight, self.visible_bias, self.hidden_bias

    def _model_draws(self, p: Float[Tensor, "n hidden"]) -> tuple[Tensor, Tensor, Tensor]:
        """v, its field and the probabilities of h, of the chains at β = 1 after k steps."""
        replicas, chains = len(self.betas), None if self.negatives == "cd" else self._chains
        h = self._hidden_draw(p).repeat(replicas, 1) if chains is None else chains.to(p)
        n = len(h) // replicas
        beta = 1.0 if replicas == 1 else self.betas.repeat_interleave(n)[:, None]
        for _ in range(self.k):
            v = self._visible_given(h, beta)
            field = self._field(v)
            if replicas > 1:
                v, field = self._swapped(v, field)
            p = self._hidden_expected(scaled(field, beta))
            h = self._hidden_draw(p)
        self._chains = h
        return v[:n], field[:n], p[:n]

    def _fantasies(self) -> Tensor:
        """v of the chains at β = 1, where they are now."""
        assert self._chains is not None
        h = self._chains.to(self.weight)
        return self._visible_given(h[: len(h) // len(self.betas)])

    def _swapped(self, v: Tensor, field: Tensor) -> tuple[Tensor, Tensor]:
        """Swap states of neighbouring replicas by Metropolis' rule: even or odd pairs, at random."""
        v, field = (t.unflatten(0, (len(self.betas), -1)) for t in (v, field))
        low, high = replica_pairs(len(v), device=v.device)
        cold, hot = (self.betas[i][:, None, None] for i in (low, high))
        F, a, b = self._free_energy, (v[low], field[low]), (v[high], field[high])
        log_ratio = F(*a, cold) + F(*b, hot) - F(*a, hot) - F(*b, cold)
        swap(low, log_ratio, v, field)
        return v.flatten(0, 1), field.flatten(0, 1)

    def _gradients(
        self, c: Float[Tensor, " n"], v: Tensor, p: Tensor, mu: Tensor, lam: Tensor
    ) -> tuple[Tensor, ...]:
        """Of Σ −c F(v), where Σ c = 0: by weight, visible and hidden bias; plain with offsets 0."""
        t, p = self._statistic(v) - mu, p - lam
        with fast_products(self.device):
            d_weight = t.T @ (c[:, None] * p)
        return d_weight, t.T @ c - d_weight @ lam, p.T @ c - d_weight.T @ mu

    # Use.

    def encode(self, x: Rows) -> Float[Tensor, "n hidden"]:
        """Probability that each hidden unit is 1, given each row.

        Raises
        ------
        DataError
            If x has the wrong shape, or a row lies outside the domain.
        """
        return self._hidden_given(x)

    def _hidden_given(self, x: Rows) -> Tensor:
        return self._field(self._units(accept_inside(self, x))[0]).sigmoid()

    @torch.no_grad()
    def reconstruct(self, x: Rows) -> Float[Tensor, "n *shape"]:
        """Expected row, given the probabilities of the hidden units that each row makes.

        Of columns that are neither real nor binary it is expected on the scale of the real view, of
        positive ones the logarithm, say, and carried back.

        Raises
        ------
        DataError
            If x has the wrong shape, or a row lies outside the domain.
        """
        u = self._visible_input(self._hidden_given(x), 1.0)
        return self._expected_rows(self._visible_expected(u, 1.0))

    def _expected_rows(self, v: Tensor) -> Tensor:
        return binary_rows(self.domain, v)
