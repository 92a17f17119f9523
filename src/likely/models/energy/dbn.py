"""Deep belief network: restricted Boltzmann machines, each trained on the hidden units of the one below.

The top two layers are a restricted Boltzmann machine, and those below are directed:

    p(v, h¹, …, h^L) = p(v|h¹) p(h¹|h²) … p_RBM(h^(L−1), h^L)

(Hinton, Osindero & Teh 2006). Layers are trained one after the other; with q(h|v) of the machines
below, each h drawn from the layer before, a new one raises the bound

    log p(v) ≥ E_q[log p(v|h¹) + … − F(h^(L−1)) − log q(h|v)] − log Z

in which F and Z are those of the top machine only (Salakhutdinov & Murray 2008). The mean of the
exponentials of such terms is p(v) in expectation, and so the logarithm of a mean over K draws is a
tighter bound.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Annotated, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from likely.contract import Batch, GenerativeModel, Objective, Range, Rows, register
from likely.contract.inputs import accept_inside
from likely.contract.training import Stage
from likely.core.domain import Domain, binary
from likely.core.errors import LikelyError
from likely.core.likelihood import Estimator, Kind, importance_bound
from likely.models.energy.boltzmann import Method, drawn
from likely.models.energy.gaussian_rbm import GaussianRBM
from likely.models.energy.rbm import RBM, softplus


@register(
    "dbn",
    title="deep belief network",
    density="lower bound; with more than 20 units in both of the top layers an estimate of one",
    constraint="directed layers below one restricted Boltzmann machine, whose chains samples come from",
    paper="Hinton, Osindero & Teh 2006; Salakhutdinov & Murray 2008",
)
class DBN(GenerativeModel):
    """Deep belief network of restricted Boltzmann machines.

    `fit` trains one layer after the other, in equal shares of the budget. Until all have
    begun, the model is that of the layers which have. A layer with as many hidden units as the layer
    below has visible ones, or more, starts as that one upside down, where the bound is exact.

    log Z of the top layer is found as that of an `RBM`: `top.log_z` and `top.annealed` say more.

    Parameters
    ----------
    domain : Domain
        Of binary columns or spins; or of real, positive or bounded ones, for Gaussian units.
    hidden : sequence of int or RBM, optional
        The layers from the bottom, two or more: numbers of hidden units, or machines of one's own, such
        as `lk.energy.RBM(lk.binary(500), hidden=2000, k=10)` above 500 hidden units. By default two of
        128, or of 16 above Gaussian ones. They are saved with this model.
    fine_tuning : float
        Part of the budget at the end in which all layers move by the up–down algorithm, and those of
        the recognition q have weights of their own.

    Raises
    ------
    DomainError
        If the columns are neither those of an `RBM` nor of a `GaussianRBM`.
    LikelyError
        If an option is out of range, or a layer is not a restricted Boltzmann machine over the hidden
        units of the layer below.

    Examples
    --------
    >>> import likely as lk
    >>> data = lk.load_data(lk.targets.ising(3, 3).sample(2000, 0), domain=lk.spins(3, 3))
    >>> model = lk.energy.DBN(data.domain, hidden=(8, 4))
    >>> history = lk.fit(model, data, steps=200)
    >>> str(model.log_likelihood(data.test.x, draws=10, seed=0).kind)
    'lower bound'
    """

    accepts = RBM.accepts | GaussianRBM.accepts
    takes_context = False
    validation = RBM.validation

    def __init__(
        self,
        domain: Domain,
        *,
        hidden: Sequence[int | GenerativeModel] | None = None,
        fine_tuning: Annotated[float, Range(0, 1, open="high")] = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(domain, **options)
        bottom = GaussianRBM if RBM.obstacle(domain) else RBM
        given = [bottom.default_hidden] * 2 if hidden is None else list(hidden)
        if len(given) < 2:
            raise LikelyError(
                f"DBN: hidden={hidden}: give two layers or more; one alone is an `rbm`"
            )
        self.layers: Sequence[RBM] = nn.ModuleList()  # type: ignore[assignment]
        units = domain
        for layer in given:
            cls = RBM if self.layers else bottom
            made = cls(units, hidden=layer) if isinstance(layer, int) else self._own(layer, units)
            self.layers.append(made)  # type: ignore[attr-defined]
            units = binary(len(made.hidden_bias))
        self.recipe = self.layers[0].recipe
        self.fine_tuning = fine_tuning
        self.recognition: Sequence[nn.Linear] = nn.ModuleList(  # type: ignore[assignment]
            nn.Linear(*layer.weight.shape) for layer in self.layers[:-1] if fine_tuning
        )
        self.untied = nn.Buffer(torch.tensor(False))  # whether q has weights of its own

    @classmethod
    def obstacle(cls, domain: Domain) -> str | None:
        return RBM.obstacle(domain) and GaussianRBM.obstacle(domain)

    def _own(self, layer: GenerativeModel, units: Domain) -> RBM:
        """A layer that the user gives, over these units."""
        if isinstance(layer, RBM) and layer.free_energy_is == Kind.EXACT and layer.domain == units:
            return layer
        at = len(self.layers)
        over = (
            f"lk.binary({units.size}), the hidden units below" if at else "the domain of the data"
        )
        is_over = f" over {layer.domain.size} columns" if isinstance(layer, RBM) else ""
        raise LikelyError(
            f"DBN: hidden: layer {at + 1} is a {type(layer).__name__}{is_over}: give its number of hidden "
            f"units, or a restricted Boltzmann machine over {over}"
        )

    @property
    def density(self) -> Kind:
        return Kind.LOWER + self.layers[-1].density

    @property
    def depth(self) -> int:
        """Number of layers that have begun to train; all, where none has."""
        begun = [bool(layer.prepared) for layer in self.layers]
        return [*begun, False].index(False) or len(begun)

    @property
    def top(self) -> RBM:
        """The highest of the layers that have begun to train."""
        return self.layers[self.depth - 1]

    # The recognition q.

    def _field(self, i: int, v: Tensor) -> Tensor:
        """Log-odds of the hidden units of layer i, given what is below."""
        if i < len(self.recognition) and self.untied:
            return self.recognition[i](v)
        return self.layers[i]._field(v)

    def _up(self, x: Rows, depth: int) -> list[Tensor]:
        """Units v of the lowest layer, and draws of those above, `depth` of them."""
        states = [self.layers[0]._units(x)[0]]
        for i in range(depth):
            states.append(drawn(self._field(i, states[-1]).sigmoid()))
        return states

    @torch.no_grad()
    def encode(self, x: Rows) -> Float[Tensor, "n hidden"]:
        """Probabilities of the highest hidden units, from the probabilities of those below.

        Raises
        ------
        DataError
            If x has the wrong shape, or a row lies outside the domain.
        """
        v = self.layers[0]._units(accept_inside(self, x))[0]
        for i in range(self.depth):
            v = self._field(i, v).sigmoid()
        return v

    # Training.

    def prepare(self, batch: Batch) -> None:
        """Prepare the lowest layer; the others are when their stage begins."""
        super().prepare(batch)
        self._prepare_layer(0, batch)

    def training_state(self) -> dict[str, Any]:
        return {str(i): layer.training_state() for i, layer in enumerate(self.layers)}

    def load_training_state(self, state: dict[str, Any]) -> None:
        for i, layer in enumerate(self.layers):
            layer.load_training_state(state.get(str(i), {}))

    def loss(self, batch: Batch) -> Float[Tensor, " n"]:
        """That of the top layer, on draws of what is below."""
        return self.top.loss(self._seen(self.depth - 1, batch))

    def objectives(self) -> list[Objective]:
        """Those of the top layer."""
        return self._of_layer(self.depth - 1)

    def stages(self) -> list[Stage]:
        """The layers from below, and then all together."""
        share = (1 - self.fine_tuning) / len(self.layers)
        stages = [
            Stage(partial(self._of_layer, i), share, partial(self._prepare_layer, i))
            for i in range(len(self.layers))
        ]
        if self.fine_tuning:
            stages.append(Stage(self._up_down, self.fine_tuning, self._untie))
        return stages

    @torch.no_grad()
    def _seen(self, i: int, batch: Batch) -> Batch:
        """What layer i sees of a batch: draws, since probabilities would make other, smoother, data."""
        return replace(batch, x=self._up(batch.x, i)[-1]) if i else batch

    def _of_layer(self, i: int) -> list[Objective]:
        def on_draws(own: Objective) -> Objective:
            loss = own.loss
            return replace(own, name=f"layer_{i + 1}", loss=lambda b: loss(self._seen(i, b)))

        return [on_draws(objective) for objective in self.layers[i].objectives()]

    @torch.no_grad()
    def _prepare_layer(self, i: int, batch: Batch) -> None:
        layer = self.layers[i]
        if layer.prepared:
            return
        layer.prepare(self._seen(i, batch))
        below = self.layers[i - 1]
        known, units = len(below.visible_bias), len(layer.hidden_bias)
        if i and type(below) is type(layer) is RBM and known <= units:
            layer.weight[:, :known] = below.weight.T
            layer.hidden_bias[:known] = below.visible_bias
            layer.hidden_mean[:known] = below.visible_mean
            # Units beyond, which are on half of the time, say nothing in the mean.
            layer.visible_bias.copy_(below.hidden_bias - layer.weight[:, known:].sum(1) / 2)

    # Up–down: generative weights learn on the way up, those of the recognition on the way down.

    @torch.no_grad()
    def _untie(self, batch: Batch) -> None:
        """Let the recognition start with the weights of the layers."""
        for own, layer in zip(self.recognition, self.layers, strict=False):
            own.weight.copy_(layer._statistic(layer.weight.T))
            own.bias.copy_(layer.hidden_bias)
        self.untied.fill_(True)

    def _up_down(self) -> list[Objective]:
        *below, top = self.layers
        directed = [p for layer in below for p in layer._trained if p is not layer.hidden_bias]
        recognition = [p for own in self.recognition for p in own.parameters()]
        return [
            Objective("up", [*directed, *top._trained], self._wake),
            Objective("down", recognition, self._sleep),
        ]

    def _wake(self, batch: Batch) -> Float[Tensor, " n"]:
        """−log p(v|h¹) − … at draws of q, and the loss of the top layer there."""
        with torch.no_grad():
            states = self._up(batch.x, len(self.layers) - 1)
        loss = self.layers[-1].loss(replace(batch, x=states[-1]))
        for layer, (v, h) in zip(self.layers, pairwise(states), strict=False):
            loss = loss - layer._log_given(v, h)
        return loss

    def _sleep(self, batch: Batch) -> Float[Tensor, ""]:
        """Mean of −log q(h|v) at draws of the model, which start at the chains of the top layer."""
        with torch.no_grad():
            states = self._down(self.layers[-1]._fantasies())
        parts = [_log_bernoulli(h, self._field(i, v)) for i, (v, h) in enumerate(pairwise(states))]
        return -torch.stack(parts).sum(0).mean()

    # Use.

    def _down(self, h: Tensor) -> list[Tensor]:
        """Draws of the units below those of the top layer, lowest first, and those."""
        states = [h]
        for layer in reversed(self.layers[: self.depth - 1]):
            states.insert(0, layer._visible_given(states[0]))
        return states

    def _sample(self, n: int, context: Tensor | None) -> Tensor:
        top = self.top
        h = top._units(top._sample(n, None))[0]
        return self.layers[0]._rows(self._down(h)[0])

    def estimator(
        self,
        *,
        seed: int | None = None,
        draws: int = 1,
        method: Method = "auto",
        betas: int | None = None,
        chains: int | None = None,
    ) -> Estimator:
        """The bound with one draw of q for each row, or the importance-weighted one with K = `draws`.

        The other options are those of `log_z` of an `RBM`, whose error all rows share. Where log Z is
        not exact, the bound with it is an estimate.
        """
        log_z = self.top.log_z(method=method, betas=betas, chains=chains, seed=seed)
        kind = Kind.LOWER + (Kind.EXACT if log_z.stderr is None else Kind.ESTIMATE)

        def bound(x: Tensor, _: Tensor | None) -> Tensor:
            terms = torch.stack([self._log_weight(x) for _ in range(draws)])
            return importance_bound(terms - log_z.value)

        return Estimator(bound, kind, log_z.stderr or 0.0)

    def _log_weight(self, x: Rows) -> Float[Tensor, " n"]:
        """log p(v|h¹) + … − F(h^(L−1)) − log q(h|v) at a draw of q."""
        v, total = self.layers[0]._units(x)
        for i in range(self.depth - 1):
            field = self._field(i, v)
            h = drawn(field.sigmoid())
            total = total + self.layers[i]._log_given(v, h) - _log_bernoulli(h, field)
            v = h
        return total - self.top._free_energy(v, self.top._field(v))


def _log_bernoulli(h: Tensor, field: Tensor) -> Float[Tensor, " n"]:
    """log-probability of zeros and ones with these log-odds."""
    return torch.linalg.vecdot(h, field) - softplus(field).sum(-1)
