"""Energy-based model: any network as the energy of a density, on a Gaussian base.

With z the real view of a sample, and m and Σ the mean and a widened covariance of the training rows,

    E(z) = f_θ(z) + (z − m)ᵀΣ⁻¹(z − m)/2,      p(z) = e^(−E(z)) / Z.

Z is finite for all parameters if f falls at most linearly, and then the base also has all moments of
the weights e^(−f). The networks here do, since their activations are Lipschitz: f(z) ≥ f(m) − L |z − m|,
where L need not be known, and the base outweighs any line. (On a circle, f is bounded and the base
uniform.)

Maximum likelihood (`training="likelihood"`) follows

    −∂/∂θ log p = ⟨∂f/∂θ⟩_data − ⟨∂f/∂θ⟩_model,

where the draws of the model come from persistent chains that start at data. If they never crossed between
modes the weights of the modes would be wrong, however good the samples look, and restarts would bias
them; so Metropolis-adjusted Langevin steps take turns with independent proposals from the base, which are
accepted with min(1, e^(f(z) − f(z'))), and both leave p as it is. Replicas with β f in place of f, which
swap states, lead from the base to the model where no single proposal would be accepted.

Denoising score matching (`training="denoising"`) needs no chains. Rows are moved by noise of deviation σ,
and

    ‖z' − z − σ₀² ∇E(z')‖² / 2σ²

is least where e^(−E) is the density of the data convolved with N(0, σ₀²), if σ = σ₀ (Vincent 2011). With
several levels σ, of which σ₀ is the smallest, one energy serves them all (Li, Chen & Sommer): that is right
only in many dimensions, where a point shows how far from the data it is, and it guides from far off. In
few, ∇E(z') is the mean of σ²/σ₀² times the slopes of all levels, with weights σ⁻² p(z'|σ). Slopes say
nothing about the weights of modes that the noise does not join. Samples of such an energy come from Langevin
steps at a temperature T that falls,

    z ← z − η ∇E(z) + √(2ηT) ξ,    at last  z ← z − σ₀² ∇E(z),

which takes the noise off: the mean of the data given z.

References
----------
Younes 1999 and Tieleman 2008 (persistent chains); Du & Mordatch 2019, arXiv:1903.08689 (replay buffer);
Vincent 2011, Neural Computation 23, 1661; Li, Chen & Sommer 2019, arXiv:1910.07762, eq. 6 and section 4.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from typing import Annotated, Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from likely.contract import Batch, Length, NonNegative, Range, RealView, Recipe, Widths, register
from likely.core.domain import Domain
from likely.core.errors import LikelyError
from likely.core.likelihood import Estimator, Figure, Kind, importance_bound
from likely.core.runtime import fast_products
from likely.models.energy.base import GaussianBase
from likely.models.energy.denoising import Spacing, cooled, levels
from likely.models.energy.networks import EnergyNetwork
from likely.models.energy.partition import Unnormalised
from likely.models.energy.rollback import Rollback
from likely.nets.convolutional import Network, image_shape_for
from likely.nets.normalisation import SpectralNorm, converge
from likely.nets.own import OwnNetwork
from likely.sampling import HMC, MALA, SMC, Annealed, IndependenceMetropolis, ais
from likely.sampling.sampler import Energy
from likely.sampling.tempering import replica_pairs, swap

Training = Literal["likelihood", "denoising"]
Method = Literal["auto", "ais", "integral"]

FULL_RATE = 112  # largest number of columns for which chains keep up with the full rate
MIN_IMAGE = 16  # pixels along an edge, below which convolutions cost more than they bring
INTEGRATED, MAX_INTEGRATED = 3, 8  # columns: log Z is an integral up to these by default, at most
KERNEL = HMC(0.3, leapfrogs=3)  # of annealing
PARTICLES = 512  # at least, of the annealing before samples
ROUND = 10  # steps of samples between proposals from the base
ADAPTATION = 0.1  # of the logarithm of the chains' steps, for each update
R_HAT = 4.0  # of the energy between data and draws, and …
STEEPEST = 1e4  # … inverse square root of the chains' step, above which training has diverged


@register(
    "ebm",
    title="energy-based model",
    constraint="none on the network, but that it falls at most linearly; samples come from Markov chains",
    paper="Younes 1999; Du & Mordatch 2019, arXiv:1903.08689; Vincent 2011",
)
class EBM(Unnormalised):
    """Energy-based model.

    With maximum likelihood, chains are as many as the rows of a batch, and the default rate of more than 112
    columns is lower, as the inverse of their number. A training that diverges (the energies of data and draws
    part, or the chains' steps vanish) returns to the last good state, with a warning; `rollbacks.count`
    counts how often.

    In `fit` the score of a validation is the mean log-likelihood; with more than three columns log Z is
    then from annealed importance sampling with 20 temperatures and 200 chains only: too low in
    expectation, so that the score is too high, the more so the more rugged the energy is.

    Parameters
    ----------
    domain : Domain
        Of real, positive, bounded, periodic, integer, count, binary or spin columns.
    hidden : sequence of int, optional
        Widths of the hidden layers; if they are convolutional, channels at half the resolution, at a
        quarter … None takes (128, 128, 128), or (32, 64) channels.
    network : {"auto", "mlp", "convolutional"} or Module
        Convolutions are for images with entries of one kind; "auto" takes them from 16 × 16 pixels on. Or a
        module of one's own, of which a copy is taken: it sees standardised rows of shape (n, *domain.shape),
        and nothing periodic, and gives one number for each, as `lk.nets.CNN(shape, outputs=1)` does.
    frequencies : sequence of int, optional
        The network sees sin w z and cos w z of each column z for each w of these, next to z itself: edges
        and narrow modes are learned ten times faster. None takes (1, 2, 4, 8) for up to 16 columns, and
        otherwise only what angles need.
    training : {"likelihood", "denoising"}
        Maximum likelihood, or denoising score matching.
    k : int
        Langevin steps of each chain for each update.
    proposals : int
        Independent proposals from the base after these, to the replica at the smallest β.
    replicas : int
        States of each chain, at β = 1, 1 − 1/replicas …, 1/replicas.
    noise : sequence of float
        Levels of the noise of denoising score matching, in standard deviations of a column.
    spacing : {"listed", "geometric", "linear"}
        Whether rows take levels from those in `noise`, or from all between the smallest and the
        largest: each row of a batch its own, spaced geometrically or linearly.
    quadratic : bool
        Whether f has squares of the last hidden layer, so that it can rise as the energy of many
        levels must far from the data.
    temperature : float
        Above 1, for energies of many levels: samples come from Langevin steps that start there, cool to
        1 and then to 0, and a last jump that takes the noise off. They are no draws of e^(−E), so that
        there is no likelihood to go with them; `free_energy` and `annealed` are as ever.
    pooled : bool
        Whether columns of a kind share one scale, and levels and bounded columns keep their spacing, as
        suits images. What the density puts beyond bounds then counts for nothing.
    spectral_norm : bool
        Whether to divide the weights of each layer by their largest singular value. Training is
        stable then, and the energy's slopes are small.
    energy_l2 : float
        With maximum likelihood, weight of the mean square of f over data and draws, added to the loss.
    sample_steps : int
        Langevin steps of a sample, after sequential Monte Carlo has led there from the base; or all
        while the temperature falls, of which 5/27 stay at it, and the last 2/27 cool from 1 to 0
        (2,700 in the paper).

    Raises
    ------
    LikelyError
        If an option is out of range, or convolutions are asked for where there are no images.

    Examples
    --------
    >>> import likely as lk
    >>> data = lk.load_data("rings")
    >>> model = lk.energy.EBM(data.domain, hidden=(32, 32))
    >>> history = lk.fit(model, data, steps=20)
    >>> str(model.log_likelihood(data.test.x).kind)
    'estimate'
    """

    density = Kind.ESTIMATE
    accepts = RealView.accepts
    dequantisation = "uniform"
    methods = Method
    effort = 200, 256
    recipe = Recipe(batch=512, rate=3e-3, clip=10.0, steps=5000)
    validation: ClassVar[dict[str, Any]] = {"betas": 20, "chains": 200, "draws": 1}

    def __init__(
        self,
        domain: Domain,
        *,
        hidden: Widths | None = None,
        network: Network | nn.Module = "auto",
        frequencies: Sequence[int] | None = None,
        training: Training = "likelihood",
        k: int = 5,
        proposals: int = 7,
        replicas: int = 1,
        noise: Annotated[Sequence[float], Range(0, open="low"), Length(1)] = (0.1,),
        spacing: Spacing = "listed",
        quadratic: bool = False,
        temperature: Annotated[float, Range(1)] = 1.0,
        pooled: bool = False,
        spectral_norm: bool = False,
        energy_l2: NonNegative = 0.0,
        sample_steps: int = 200,
        **options: Any,
    ) -> None:
        super().__init__(domain, **options)
        own = {"spacing": spacing != "listed", "temperature": temperature > 1}
        of = "denoising"
        if training == "denoising":
            own, of = {"energy_l2": energy_l2 > 0}, "likelihood"
        for option, given in own.items():
            if given:
                raise LikelyError(f'{option} belongs to training="{of}": leave it out')
        self.objective, self.k, self.proposals = training, k, proposals
        self.noise, self.spacing, self.temperature = tuple(noise), spacing, temperature
        self.energy_l2, self.sample_steps = energy_l2, sample_steps
        if temperature > 1:
            self.density = Kind.NONE
        self.view = RealView(domain, "pixels" if pooled else "bijections")
        self.base = GaussianBase(self.view.periodic)
        if isinstance(network, nn.Module):
            if self.view.periodic.any():
                raise LikelyError(
                    "network: there are periodic columns, which take one of EBM's own"
                )
            if quadratic:
                raise LikelyError("quadratic belongs to EBM's own networks: leave it out")
            self.network: nn.Module = OwnNetwork(network, domain, self.view.dim, self.outputs)
            if spectral_norm:
                SpectralNorm.layers_of(self.network)
        else:
            image = image_shape_for(domain, network, len(domain.columns) == 1, least=MIN_IMAGE)
            self.network = EnergyNetwork(
                self.view.periodic,
                hidden,
                frequencies,
                image,
                spectral_norm,
                quadratic,
                self.outputs,
            )
        if training == "likelihood":
            # The more columns, the more a step changes f, and the chains must keep up.
            rate = self.recipe.rate * min(1, FULL_RATE / self.view.dim)
            self.recipe = replace(self.recipe, rate=rate)
        self.derivative_in_loss = training == "denoising"
        self.betas = nn.Buffer(torch.arange(replicas, 0, -1) / replicas, persistent=False)
        self.rollbacks = Rollback()
        self.load_training_state({})

    @property
    def outputs(self) -> int:
        """Energies that the network has of a row."""
        return 1

    @property
    def rollback_count(self) -> int:  # type: ignore[override]
        return self.rollbacks.count

    # The energy, in coordinates u of the base.

    def _f(self, u: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        return self.network(self.base.columns(u))[:, 0]

    def _at(self, beta: Tensor | float = 1.0, f: Energy | None = None) -> Energy:
        """The energy β f(u) − log base(u), normalised at β = 0."""
        own = f or self._f
        return lambda u: beta * own(u) - self.base.log_prob(u)

    def _units(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """u of rows, and log |du/dx|."""
        z, log_det = self.view(x)
        return self.base.coordinates(z), log_det - self.base.log_volume

    def _energy(self, x: Tensor, f: Energy | None = None) -> Tensor:
        u, log_det = self._units(x)
        return self._at(f=f)(u) - log_det

    # Training.

    def prepare(self, batch: Batch) -> None:
        self.domain.check(batch.x)
        self.view.prepare(batch.x, batch.weight)
        noise = min(self.noise) if self.objective == "denoising" else 0.0
        self.base.prepare(self.view(batch.x)[0], batch.weight, noise)
        super().prepare(batch)

    def finish(self, batch: Batch) -> None:
        converge(self.network)

    def training_state(self) -> dict[str, Any]:
        return {"chains": self._chains, "step": self._step, "rollbacks": self.rollbacks.state()}

    def load_training_state(self, state: dict[str, Any]) -> None:
        self._chains: Tensor | None = state.get("chains")  # replicas × chains × d
        self._step = state.get("step", torch.full((len(self.betas),), 0.01))
        self.rollbacks.load(state.get("rollbacks", {}))

    def loss(self, batch: Batch) -> Float[Tensor, " n"]:
        """What training minimises, row by row.

        With maximum likelihood, f of a row minus the mean of f over the chains, which move first.
        """
        if self.objective == "denoising":
            return self._denoising(self.view(batch.x)[0])
        return self._contrast(self._units(batch.x)[0])

    def _contrast(self, data: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """f of data minus the mean of f over draws."""
        while True:
            draws = self._negatives(data)
            f = self._f(torch.cat([data, draws]))
            f_data, f_draws = f.split([len(data), len(draws)])
            if not (self.training and self._diverged(data, f_data, draws, f_draws)):
                break
        loss = f_data - f_draws.mean()
        if self.energy_l2:
            loss = loss + self.energy_l2 * (f_data.square() + f_draws.square().mean())
        return loss

    @torch.no_grad()
    def _negatives(self, data: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """Draws of the model: the chains, after they have moved."""
        if self._chains is None:
            self._chains = data.repeat(len(self.betas), 1, 1)
        chains, step = self._chains.to(data), self._step.to(data)
        with torch.autocast(self.device.type, enabled=False), fast_products(self.device):
            self._chains, acceptance = self._moved(chains, step, self.betas, self.k)
        self._step = step * (ADAPTATION * (acceptance - MALA.target)).exp()
        return self._chains[0]

    def _moved(
        self,
        u: Float[Tensor, "replicas n d"],
        step: Tensor,
        betas: Tensor,
        steps: int,
        f: Energy | None = None,
    ) -> tuple[Float[Tensor, "replicas n d"], Float[Tensor, " replicas"]]:
        """Chains after Langevin steps, proposals and swaps, and the acceptance of the first."""
        replicas, n, d = u.shape
        energy = self._at(betas.repeat_interleave(n), f)
        walk = MALA(step.repeat_interleave(n)).walk(energy, u.flatten(0, 1))
        acceptance = torch.zeros_like(betas)
        for move in islice(walk, steps):
            assert move.acceptance is not None
            acceptance += move.acceptance.view(replicas, n).mean(1) / steps
        u = move.x.view(replicas, n, d).clone()
        if move.energy.isfinite().all():  # or `_diverged` takes the chains back
            fresh = IndependenceMetropolis(self.base).walk(self._at(betas[-1], f), u[-1])
            *_, move = islice(fresh, self.proposals)
            u[-1] = move.x
        if replicas > 1:
            own = (f or self._f)(u.flatten(0, 1)).view(replicas, n)
            low, high = replica_pairs(replicas, device=u.device)
            swap(low, (betas[low] - betas[high])[:, None] * (own[low] - own[high]), u)
        return u, acceptance

    def _diverged(self, data: Tensor, f_data: Tensor, draws: Tensor, f_draws: Tensor) -> bool:
        """Whether training has diverged; then parameters and chains return to an earlier state."""
        assert self._chains is not None
        figures = self._symptoms(data, f_data.detach(), draws, f_draws.detach())
        network = [*self.network.parameters(), *self.network.buffers()]
        return self.rollbacks.check(figures, [*network, self._chains, self._step])

    def _symptoms(
        self, data: Tensor, f_data: Tensor, draws: Tensor, f_draws: Tensor
    ) -> dict[str, tuple[float, float]]:
        """How far the energies of data and draws part, how steep they are to walk on, and limits."""
        e_data = f_data - self.base.log_prob(data)
        e_draws = f_draws - self.base.log_prob(draws)
        # Of few rows in many columns the base knows the covariance too well: their energies differ by
        # so much before training begins.
        own = (self.base.entropy + self.base.log_prob(data).mean()).abs()
        gap = ((e_data.mean() - e_draws.mean()).abs() - own).clamp_min(0)
        within = (e_data.var(correction=0) + e_draws.var(correction=0)) / 2
        return {
            "energy gap": (gap.item(), 10.0 + self.view.dim),
            "R̂": ((1 + gap.square() / (2 * within.clamp_min(1))).sqrt().item(), R_HAT),
            "slope": (self._step.rsqrt().max().item(), STEEPEST),
        }

    def _slope(self, z: Float[Tensor, "n d"], create_graph: bool = False) -> Float[Tensor, "n d"]:
        """∂E/∂z; that of the base has no parameters, and stays out of the graph."""
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            base = -self.base.log_prob(self.base.coordinates(z))
            (slope,) = torch.autograd.grad(base.sum(), z)
            f = self.network(z).sum()
            (own,) = torch.autograd.grad(f, z, create_graph=create_graph)
        return slope + own

    def _denoising(self, z: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        sigma = levels(z, self.noise, self.spacing)
        noisy = z + sigma * torch.randn_like(z)
        slope = self._slope(noisy, create_graph=True)
        error = noisy - z - min(self.noise) ** 2 * slope
        return (error.square() / (2 * sigma.square())).sum(1)

    # Use.

    def estimator(
        self,
        *,
        seed: int | None = None,
        method: Method = "auto",
        betas: int | None = None,
        chains: int | None = None,
        draws: int = 16,
    ) -> Estimator:
        """−E(x) − log Z.

        Parameters
        ----------
        seed, method, betas, chains
            As in `log_z`, whose error all rows share.
        draws : int
            Of the noise where columns are dequantised, as in `RealModel`.
        """
        log_z = self.log_z(method=method, betas=betas, chains=chains, seed=seed)
        assert log_z.stderr is not None
        draws = 1 if self.view.exact else draws

        def terms(x: Tensor, _: Tensor | None) -> Tensor:
            value, *stderr = importance_bound(torch.stack([-self._energy(x) for _ in range(draws)]))
            return torch.stack([value - log_z.value, *stderr])

        return Estimator(terms, Kind.ESTIMATE, log_z.stderr)

    def _integrates(self, method: str) -> bool:
        """Whether log Z is an integral by quadrature."""
        if method == "integral" and self.view.dim > MAX_INTEGRATED:
            most = f"more than {MAX_INTEGRATED} columns"
            raise LikelyError(f'method="integral": points cannot fill {most}; take method="ais"')
        return method == "integral" or self.view.dim <= INTEGRATED

    def _known_log_z(self, method: str) -> Figure | None:
        # Since the base is normalised.
        return self.base.integral(self._f) if self._integrates(method) else None

    def _anneal(self, **run: Any) -> Annealed:
        found = ais(self._at(), self.base, kernel=KERNEL, **run)
        self._weighed(found)
        return replace(found, samples=self._rows(found.samples))

    def _weighed(self, found: Annealed) -> None:
        """Called with an estimate whose samples are still states u."""

    def _rows(self, u: Float[Tensor, "n d"]) -> Tensor:
        return self.view.inverse(self.base.columns(u))

    def _sample(self, n: int, context: Tensor | None) -> Tensor:
        """Ends of chains that sequential Monte Carlo has led from the base to the model."""
        if self.temperature > 1:
            with fast_products(self.device):
                z = self.base.columns(self.base.sample(n))
                steps = self.temperature, self.sample_steps
                return self.view.inverse(cooled(z, self._slope, min(self.noise), *steps))
        with fast_products(self.device):
            u, step = self._arrivals(n)
            u = u[torch.randperm(len(u), device=self.device)[:n]]
            return self._rows(self._walked(u, step))

    def _arrivals(self, n: int) -> tuple[Float[Tensor, "particles d"], Tensor]:
        """n particles or more that sequential Monte Carlo has led to the model, and a step for there."""
        start = self.base.sample(max(n, PARTICLES))
        arrival = next(SMC(self.base, KERNEL, ess=0.9).walk(self._at(), start))
        return arrival.x, arrival.info["step"][None].square() / 2  # Langevin instead of leapfrogs

    def _walked(
        self, u: Float[Tensor, "n d"], step: Tensor, f: Energy | None = None
    ) -> Float[Tensor, "n d"]:
        """The states after the steps of a sample."""
        for done in range(0, self.sample_steps, ROUND):
            steps = min(ROUND, self.sample_steps - done)
            u = self._moved(u[None], step, self.betas[:1], steps, f)[0][0]
        return u
