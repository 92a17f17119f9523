"""The report of a reconstruction: its sentences, its table and its page."""

from rich.table import Table

from likely._version import provenance
from likely.core.likelihood import Figure, Kind, shown
from likely.quantum.pictures import sections
from likely.quantum.result import Result, Score
from likely.report.page import Cell, Column, Page, listed, terminal_table

DOUBT = 0.01  # p-value below which outcomes are said to belong to no state
COLUMNS = {
    "model": Column("model", "", "What describes the outcomes.", numeric=False),
    "shots": Column("shots", "", "Number that it was fitted to, validation included."),
    "held_out": Column("held-out log-likelihood", "nats", "Mean over shots that no model saw."),
    "behind": Column("behind", "nats", "How far its log-likelihood is below the reconstruction's."),
    "kl": Column("KL(exact‖model)", "nats", "On fresh exact shots; 0 is perfect."),
    "reverse_kl": Column("KL(model‖exact)", "nats", "On its own outcomes; ∞ if one is impossible."),
    "classical_fidelity": Column(
        "classical fidelity", "", "Σ √(P P_model), not squared, on its own outcomes; 1 is perfect."
    ),
    "energy": Column("energy", "", "From outcomes, through the dual frame."),
}


def page(result: Result) -> str:
    """The report as the text of one HTML page."""
    columns, rows = _table(result)
    return Page(
        title=f"likely quantum reconstruct: {_state(result)}",
        lead=summary(result),
        columns=columns,
        rows=rows,
        notes=notes(result),
        sections=sections(result),
        settings=_settings(result),
    ).render()


def summary(result: Result) -> list[str]:
    """What came out, in a few sentences."""
    score, matrix = result.score, result.density_matrix
    cells = _cells(score, result)
    first = (
        f"{score.model}, fitted to {score.shots:,} {result.shots.povm.name} shots of {_state(result)} "
        f"in {result.history.seconds:,.0f} s"
    )
    if score.kl is not None:
        first += (
            f": KL(exact‖model) {cells['kl'].text} nats, classical fidelity Σ √(P P_model) "
            f"{cells['classical_fidelity'].text}"
        )
    elif score.held_out is not None:
        gains = [(b.behind.value, b) for b in result.baselines if b.behind is not None]
        _, best = min(gains, key=lambda entry: entry[0])
        first += (
            f": held-out log-likelihood {cells['held_out'].text} nats, "
            f"{_cells(best, result)['behind'].text} above that of the best baseline ({best.model})"
        )
    if matrix is not None and matrix.fidelity is not None:
        first += f", quantum fidelity (squared) {matrix.fidelity:.5f}"
    lines = [first]
    if score.energy is not None:
        exact = result.exact_energy
        known = "" if exact is None else f"; the exact one is {_exact(exact)}"
        lines.append(f"Energy {shown(score.energy)}{known}")
    if matrix is not None:
        line = f"The smallest eigenvalue of the density matrix is {_exact(matrix.smallest)}"
        if matrix.smallest < -1e-9 and matrix.fidelity is not None:
            line += (
                ": it is not positive, so that the quantum fidelity with a pure state may exceed 1, and that "
                "with a mixed one is that of the nearest density matrix"
            )
        lines.append(line)
    tests = result.positivity, result.measured_positivity
    for of, test in zip(("generated outcomes", "the shots themselves"), tests, strict=True):
        if test is not None:
            verdict = "may all be positive" if test.p_value > DOUBT else "cannot all be positive"
            lines.append(
                f"The {test.matrices:,} density matrices of sites and pairs of sites by {of} {verdict} (the "
                f"expectation that is lowest in standard errors is {shown(test.value)}, at "
                f"{' and '.join(f'site {site}' for site in test.sites)}; p = {test.p_value:.2g})"
            )
    return [f"{line}." for line in lines]


def _state(result: Result) -> str:
    unnamed = "unknown state" if result.shots.state is None else "given state"
    return f"{result.shots.header.get('chain', unnamed)}, {result.shots.sites} sites"


def notes(result: Result) -> list[str]:
    """What a reader must know about the figures."""
    score, kinds = result.score, result.score.kinds
    lines = [f"{name}: {reason}." for name, reason in result.reasons.items()]
    if result.scored is not None:
        drawn = f"{result.scored:,} fresh shots, and as many outcomes of a model"
        lines.append(f"KL and classical fidelity: on {drawn}.")
    if score.kl is not None and score.density != Kind.EXACT:
        lines.append(
            f"{score.model}: its likelihood is {_a(score.density)}, so that KL(exact‖model) and the "
            f"classical fidelity are each {_a(kinds['kl'])}, and KL(model‖exact) is "
            f"{_a(kinds['reverse_kl'])}."
        )
    return lines


def _a(kind: Kind) -> str:
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"


def rich_table(result: Result) -> Table:
    """The table for a terminal."""
    return terminal_table(*_table(result))


def _table(result: Result) -> tuple[list[Column], list[list[Cell]]]:
    """Columns in which any row has an entry, and the rows."""
    rows = []
    for score in [result.score, *result.curve, *result.baselines]:
        shots = Cell(f"{score.shots:,}", score.shots)
        head = {"model": Cell(score.model, score.model), "shots": shots}
        rows.append(head | _cells(score, result))
    energy = result.exact_energy
    for name, figure in (
        ("shots themselves", result.measured_energy),
        ("exact state", None if energy is None else Figure(energy)),
    ):
        if figure is not None:
            rows.append({"model": Cell(name, name), "energy": _cell(figure)})
    empty = Cell("")
    filled = [name for name in COLUMNS if any(row.get(name, empty).text for row in rows)]
    return [COLUMNS[n] for n in filled], [[row.get(n, empty) for n in filled] for row in rows]


def _cells(score: Score, result: Result) -> dict[str, Cell]:
    """The figures of a score, by the names of their columns."""
    behind = result.score.density + score.density.opposite
    kinds = {"held_out": score.density, "behind": behind, **score.kinds}
    return {name: _cell(getattr(score, name), kinds.get(name)) for name in [*COLUMNS][2:]}


def _cell(figure: Figure | None, kind: Kind | None = None) -> Cell:
    """A figure, marked where it is a bound or an estimate."""
    if figure is None:
        return Cell("")
    text = _exact(figure.value) if figure.stderr is None else shown(figure)
    return Cell(f"{'' if kind is None else kind.sign}{text}", figure.value)


def _exact(value: float) -> str:
    return f"{value:.5f}".replace("-", "−")


def _settings(result: Result) -> list[tuple[str, str]]:
    shots, history = result.shots, result.history
    header = {k: v for k, v in shots.header.items() if isinstance(v, str | int | float)}
    seconds = f"{result.seconds:,.0f} s for the fit and all measurements but the learning curve"
    return [
        ("shots", f"{len(shots.outcomes):,}, of {shots.sites} sites; {listed(header)}"),
        ("POVM", f"{shots.povm.name}: {shots.povm.outcomes} outcomes, rank {shots.povm.rank} of 4"),
        ("noise", f"{shots.noise:g}, the probability that a site is depolarised"),
        ("model", f"{result.score.model}: {listed(result.model.hyperparameters)}"),
        ("fit", f"{history.steps:,} steps in {history.seconds:,.0f} s"),
        ("time", seconds),
        *provenance(result.model.device).items(),
    ]
