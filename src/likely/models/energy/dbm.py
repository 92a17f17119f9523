"""Deep Boltzmann machine: undirected layers of binary units, each connected to its neighbours only.

    E(v, h¹, …, h^L) = −vᵀW₁h¹ − h¹ᵀW₂h² − … − aᵀv − Σ_l b_lᵀh^l

(Salakhutdinov & Hinton 2009). No connection joins two even layers e = (v, h², …), or two odd ones
o = (h¹, h³, …), so that it is a restricted Boltzmann machine between these, with the weights

    W = ( W₁     0   … )
        ( W₂ᵀ    W₃  … )

of which a row shows only v. All that needs no data is that machine's: block Gibbs steps, persistent
chains, log Z. Given v, a product μ of independent units approximates the rest by mean field,

    μ_o = σ(b_o + Wᵀ(v, μ_e)),   μ_e = σ(b_e + W μ_o),   repeated until they stay,

which is the highest product that this start leads to of the bound

    log p(v) ≥ −F(v, μ_e) + H(μ_e) − log Z,      F(e) = −a_eᵀe − Σ_j softplus(b_j + (Wᵀe)_j).

Its gradient is that of F, as in `rbm`, with (v, μ_e) for the data; centred, it needs no other start
(Montavon & Müller 2012). What is left between bound and log p(v) can be measured: given v, the rest is a
restricted Boltzmann machine with biases of its own.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Annotated, Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from likely.contract import Batch, Length, Objective, Range, Rows, register
from likely.contract.inputs import accept_inside
from likely.contract.training import Stage
from likely.core.domain import Domain, binary
from likely.core.likelihood import Figure, Kind, Likelihood
from likely.core.random import seeded
from likely.models.energy.boltzmann import Beta, Method, binary_codes, drawn
from likely.models.energy.dbn import DBN
from likely.models.energy.rbm import OFFSET_RATE, RBM

MARGIN = 1e-4  # of means whose log-odds an annealing starts from


@register(
    "dbm",
    title="deep Boltzmann machine",
    density="lower bound; with more than 20 units in both groups of layers an estimate of one",
    constraint="layers of binary units, connected to their neighbours; samples come from Markov chains",
    paper="Salakhutdinov & Hinton 2009; Montavon & Müller 2012",
)
class DBM(RBM):
    """Deep Boltzmann machine of binary units.

    `free_energy` and `log_likelihood` are those of the mean field: an upper and a lower bound, with log Z
    by enumeration or annealed importance sampling over even and odd layers (`log_z`, `annealed`).
    `mean_field_gap` measures how far they are from the truth.

    The other parameters and the errors are those of `RBM`; there are no hidden units but those of `hidden`,
    and a sparsity is that of odd layers.

    Parameters
    ----------
    hidden : sequence of int
        Units of the hidden layers from the bottom, two layers or more.
    mean_field : int
        Updates of the mean field at most. It starts at a pass upwards with doubled weights, in place of
        what the layers above will say.
    pretraining : float
        Part of the budget at the beginning in which restricted Boltzmann machines learn one layer after
        the other; until it is over the units of this one are independent. So that each machine leaves
        room for its neighbours, the first sees its rows twice, the last has its hidden units twice, and
        the weights of the others are halved.

    Examples
    --------
    >>> import likely as lk
    >>> data = lk.load_data(lk.targets.ising(3, 3).sample(2000, 0), domain=lk.spins(3, 3))
    >>> model = lk.energy.DBM(data.domain, hidden=(6, 4))
    >>> history = lk.fit(model, data, steps=100)
    >>> str(model.density)
    'lower bound'
    >>> model.mean_field_gap(data.test.x).value >= 0
    True
    """

    free_energy_is = Kind.LOWER

    def __init__(
        self,
        domain: Domain,
        *,
        hidden: Annotated[Sequence[int], Length(2)] = (128, 128),
        mean_field: int = 25,
        pretraining: Annotated[float, Range(0, 1, open="high")] = 0.0,
        negatives: Literal["persistent", "tempered"] = "persistent",
        **options: Any,
    ) -> None:
        self.layers = tuple(hidden)  # which `_visible_units` needs
        super().__init__(domain, hidden=sum(hidden[::2]), negatives=negatives, **options)
        self.mean_field, self.pretraining = mean_field, pretraining
        connected = torch.zeros_like(self.weight)
        for i in range(len(hidden)):
            self._block(connected, i).fill_(1)
        # Two layers are connected in full.
        self.connected = nn.Buffer(connected, persistent=False) if len(hidden) > 2 else None
        with torch.no_grad():
            self.weight.mul_(connected)
        self.stack = self._stack() if pretraining else None

    # The layers, and where they are among even and odd ones.

    def _visible_units(self) -> int:
        self.sizes = self.domain.size, *self.layers
        return sum(self.sizes[::2])

    def _at(self, i: int) -> slice:
        """Where layer i, from 0 for v, stands among those of its parity."""
        start = sum(self.sizes[i % 2 : i : 2])
        return slice(start, start + self.sizes[i])

    def _block(self, weight: Tensor, i: int) -> Tensor:
        """The part of W between layers i and i + 1, lower × upper, as a view."""
        if i % 2:
            return weight[self._at(i + 1), self._at(i)].T
        return weight[self._at(i), self._at(i + 1)]

    def _bias_of(self, i: int) -> Tensor:
        return (self.visible_bias, self.hidden_bias)[i % 2][self._at(i)]

    # The mean field.

    def _units(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(v, μ_e), and the entropy of μ_e."""
        v = binary_codes(self.domain, x, self.weight.dtype)
        mu = self._mean_field(v)
        entropy = -(torch.xlogy(mu, mu) + torch.xlogy(1 - mu, 1 - mu)).sum(1)
        return torch.cat([v, mu], 1), entropy

    @torch.no_grad()
    def _mean_field(self, v: Float[Tensor, "n visible"]) -> Float[Tensor, "n even"]:
        """μ_e given v.

        A training step takes most of its time here, two products with the upper weights an update: with
        500 units in both layers, 25 updates are twice the work of five Gibbs steps.
        """
        visible = v.shape[1]
        bias, weight = self.visible_bias[visible:], self.weight[visible:]
        given = torch.addmm(self.hidden_bias, v, self.weight[:visible])
        odd = (2 * given - self.hidden_bias).sigmoid_()
        tolerance = torch.finfo(v.dtype).eps ** 0.5
        for _ in range(self.mean_field):
            even = torch.addmm(bias, odd, weight.T).sigmoid_()
            before, odd = odd, torch.addmm(given, even, weight).sigmoid_()
            if torch.dist(odd, before, torch.inf) < tolerance:
                break
        return even

    def _rows(self, v: Tensor) -> Tensor:
        return super()._rows(v[:, : self.domain.size])

    def _expected_rows(self, v: Tensor) -> Tensor:
        return super()._expected_rows(v[:, : self.domain.size])

    def encode(self, x: Rows) -> Float[Tensor, "n hidden"]:
        """Mean-field probabilities of all hidden units, layer by layer.

        Raises
        ------
        DataError
            If x has the wrong shape, or a row lies outside the domain.
        """
        even = self._units(accept_inside(self, x))[0]
        means = even, self._field(even).sigmoid()
        return torch.cat([means[i % 2][:, self._at(i)] for i in range(1, len(self.sizes))], 1)

    # Training.

    def prepare(self, batch: Batch) -> None:
        """Start from independent units, the visible ones with the means of the data."""
        super().prepare(batch)
        if self.stack is not None:
            self.stack.prepare(batch)

    def training_state(self) -> dict[str, Any]:
        stack = {} if self.stack is None else {"stack": self.stack.training_state()}
        return super().training_state() | stack

    def load_training_state(self, state: dict[str, Any]) -> None:
        super().load_training_state(state)
        if self.stack is not None:
            self.stack.load_training_state(state.get("stack", {}))

    def objectives(self) -> list[Objective]:
        """The joint training of all layers."""
        return [Objective("loss", list(self._trained), self.loss)]

    def stages(self) -> list[Stage]:
        """The layers one after the other, if they are to be pretrained, and all together."""
        if self.stack is None:
            return super().stages()
        greedy = [replace(s, share=s.share * self.pretraining) for s in self.stack.stages()]
        return [*greedy, Stage(self.objectives, 1 - self.pretraining, self._compose)]

    def _gradients(
        self, c: Float[Tensor, " n"], v: Tensor, p: Tensor, mu: Tensor, lam: Tensor
    ) -> tuple[Tensor, ...]:
        d_weight, d_visible, d_hidden = super()._gradients(c, v, p, mu, lam)
        if self.connected is None:
            return d_weight, d_visible, d_hidden
        absent = d_weight - d_weight * self.connected  # whose offsets the biases must not see
        return d_weight - absent, d_visible + absent @ lam, d_hidden + absent.T @ mu

    def _move_offsets(self, v: Tensor, p: Tensor) -> None:
        super()._move_offsets(v, p)
        visible = self.domain.size
        self.visible_mean[visible:].lerp_(v[:, visible:].mean(0), OFFSET_RATE)
        self.visible_mean[visible:].clamp_(MARGIN, 1 - MARGIN)

    # Pretraining.

    def _stack(self) -> DBN:
        """Machines of neighbouring layers, of which the first and the last have one side twice."""
        last = len(self.sizes) - 2
        machines: list[RBM] = []
        for i, (lower, upper) in enumerate(pairwise(self.sizes)):
            units = binary(lower) if i else self.domain
            copies = 2 if i == 0 else 1, 2 if i == last else 1
            machines.append(_Copied(units, hidden=upper, copies=copies, k=self.k))
        return DBN(self.domain, hidden=machines)

    @torch.no_grad()
    def _compose(self, batch: Batch) -> None:
        """Take the weights of the machines.

        The input of a layer between two of them is the mean of what they give it: the one below doubles
        what comes from below, and the one above what comes from above.
        """
        assert self.stack is not None
        machines = self.stack.layers
        for i, machine in enumerate(machines):
            inner = 0 < i < len(machines) - 1
            self._block(self.weight, i).copy_(machine.weight / (2 if inner else 1))
        for i in range(len(self.sizes)):
            above: list[Tensor] = [machine.visible_bias for machine in machines[i : i + 1]]
            below: list[Tensor] = [machines[i - 1].hidden_bias] if i else []
            self._bias_of(i).copy_(torch.stack([*above, *below]).mean(0))

    # Use.

    @torch.no_grad()
    def mean_field_gap(
        self,
        x: Rows,
        *,
        method: Method = "auto",
        betas: int = 1000,
        chains: int = 64,
        seed: int | None = None,
    ) -> Figure:
        """How far the mean-field bound is below log p(x): the mean over rows, in nats.

        Given v, the sum over hidden units is that of a restricted Boltzmann machine between the even and
        the odd ones: exact where one of these has at most 20 units, else annealed from the mean field.
        That takes about a second for each row with 500 units in both.

        Parameters
        ----------
        x : Tensor, shape (n, *domain.shape)
        method, betas, chains, seed
            Of `log_z` of that machine, for each row.

        Raises
        ------
        DataError
            If x has the wrong shape, or a row lies outside the domain.
        """
        x = accept_inside(self, x)
        states, entropy = self._units(x)
        bound = entropy - self._free_energy(states, self._field(states))
        visible = self.domain.size
        v, mu = states.split([visible, states.shape[1] - visible], 1)
        given = torch.addmm(self.hidden_bias, v, self.weight[:visible])
        found = []
        with seeded(seed, self.device):
            rest = RBM(binary(mu.shape[1]), hidden=given.shape[1]).to(self.weight)
            rest.weight.copy_(self.weight[visible:])
            rest.visible_bias.copy_(self.visible_bias[visible:])
            for mean, field in zip(mu, given, strict=True):
                rest.visible_mean.copy_(mean.clamp(MARGIN, 1 - MARGIN))
                rest.hidden_bias.copy_(field)
                found.append(rest.log_z(method=method, betas=betas, chains=chains))
        log_z = bound.new_tensor([figure.value for figure in found])
        gap = v @ self.visible_bias[:visible] + log_z - bound
        return Likelihood(gap, Kind.EXACT + rest.density).mean()


class _Copied(RBM):
    """A restricted Boltzmann machine in which each unit of a layer stands for `copies` equal ones.

    State s of such units is how many are 1: they see one input and have the same weights. Rows show the
    visible ones alike.
    """

    def __init__(self, domain: Domain, *, copies: tuple[int, int], **options: Any) -> None:
        super().__init__(domain, **options)
        self.copies = copies

    @torch.no_grad()
    def prepare(self, batch: Batch) -> None:
        super().prepare(batch)
        self.visible_bias.copy_((self.visible_mean / self.copies[0]).logit())

    def _units(self, x: Tensor) -> tuple[Tensor, Tensor]:
        v, log_det = super()._units(x)
        return self.copies[0] * v, log_det

    def _visible_draw(self, u: Tensor, beta: Beta) -> Tensor:
        return _drawn(u.sigmoid(), self.copies[0])

    def _hidden_partition(self, u: Tensor) -> Tensor:
        return self.copies[1] * super()._hidden_partition(u)

    def _hidden_expected(self, u: Tensor) -> Tensor:
        return self.copies[1] * u.sigmoid()

    def _hidden_draw(self, p: Tensor) -> Tensor:
        return _drawn(p / self.copies[1], self.copies[1])


def _drawn(probability: Tensor, copies: int) -> Tensor:
    """How many of so many units are 1."""
    return sum((drawn(probability) for _ in range(copies)), torch.zeros_like(probability))
