"""Published numbers, each by one command.

    python benchmarks/reproduce.py --list
    python benchmarks/reproduce.py qucumber-kl --data ../shared/data
    python benchmarks/reproduce.py --page

A row names a number that was published, or is known exactly, and the benchmark that makes ours. A run reads
ours from what the benchmark prints and writes it to `reproductions/NAME.json` with date, seed, time, versions
and command; rows of one command are written together. The page `reproductions/index.html` shows all rows:
nothing in it is typed in but theirs.

"met" is within two standard errors of theirs, or of exact values three; an error that is not known counts as
0. What was measured under another protocol says so in its row: read these as a yardstick only.
"""

import argparse
import datetime
import json
import math
import re
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from likely._version import provenance
from likely.core.files import write_json
from likely.core.likelihood import Figure, shown
from likely.report.page import Cell, Column, Page

HERE = Path(__file__).parent
RESULTS = HERE / "reproductions"
SEED = 0  # that of every benchmark where it is not told otherwise
NUMBER = r'(-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)(?:(?: ± |,\s*"stderr": )(\d+(?:\.\d+)?(?:e[+-]?\d+)?))?'


@dataclass(frozen=True)
class Row:
    """A published number.

    Attributes
    ----------
    name, what, unit : str
    theirs : float
    source, protocol : str
    command : str
        With `{data}` and `{out}`; several follow one another by `&&`.
    before : str
        Regular expression of what stands before our number in the output.
    better : str
        "higher", "lower", or "equal" for what is known exactly.
    scale : float
        From the unit of the output to that of the row.
    theirs_error : float
        Where it was published.
    """

    name: str
    what: str
    theirs: float
    source: str
    protocol: str
    command: str
    before: str
    better: str = "higher"
    unit: str = "nats"
    scale: float = 1.0
    theirs_error: float = 0.0

    def read(self, text: str) -> Figure | None:
        """Our number in the output of the command, the first if there are several."""
        found = re.search(self.before + NUMBER, text)
        if not found:
            return None
        value, error = found.groups()
        return Figure(self.scale * float(value), self.scale * float(error) if error else None)

    def verdict(self, ours: Figure) -> str:
        """How ours stands to theirs."""
        error = math.hypot(ours.stderr or 0.0, self.theirs_error)
        gap = ours.value - self.theirs
        if self.better == "equal":
            return "met" if abs(gap) <= 3 * error else "short"
        lead = gap if self.better == "higher" else -gap
        if lead > 2 * error:
            return "beaten"
        return "met" if lead >= -2 * error else "short"


STATIC = "Larochelle's static binarisation, all 10,000 test images"
DYNAMIC = "theirs on pixels that are drawn anew, about 2 nats easier; ours on the static file"
DIGITS = "python benchmarks/binarised_mnist.py {data}/binarized_mnist.npz "
BINARISED = DIGITS + "--out {out} "
VAE = BINARISED + "--minutes 15"
IWAE = (
    f"{DIGITS}--out {{out}}/vae --minutes 15 --draws 1 && "
    f"{DIGITS}--out {{out}}/iwae --minutes 15 --start {{out}}/vae --model iwae"
)
IAF = BINARISED + """--minutes 15 --set '{{"posterior": "iaf", "posterior_hidden": [320]}}'"""
PIXELCNN = BINARISED + "--model pixelcnn --minutes 30"
PIXELRNN = BINARISED + "--model pixelrnn --minutes 60"
MACHINE = "python benchmarks/boltzmann.py {data}/binarized_mnist.npz --out {out} "
DBM = MACHINE + "--model dbm --minutes 60"
RECURRENT = "van den Oord et al. 2016, arXiv:1601.06759"
SPHERES = (
    "python benchmarks/hyperspherical.py {data}/mnist.npz --out {out} --minutes 20 --dimensions "
)
QUCUMBER = "python benchmarks/qucumber.py {data}/qucumber --seeds 1"
SHOTS = "10,000 shots; a sum over all outcomes"
TFIM = (
    "likely quantum measure --chain tfim --sites 50 --povm tetrahedral --shots 200000 "
    "--out {out}/shots.npz && "
    "likely quantum reconstruct {out}/shots.npz --model rnn --epochs 6 --out {out}/run --json"
)
PLAY = (
    "likely fit {data}/tinyshakespeare.txt.gz --model transformer --precision bf16-mixed --minutes 15 "
    "--out {out} && likely evaluate {out} {data}/tinyshakespeare.txt.gz --json"
)
BITS = r'"bits_per_character_in_windows": \{\s*"value": '
PATCHES = "python benchmarks/run.py --only quality.bsds300 --minutes 30 --data {data}"
LATTICE = "python benchmarks/lattice.py --out {out} "
ALBERGO = "Albergo et al. 2021, arXiv:2101.08176"


def mnist(
    name: str, what: str, theirs: float, source: str, command: str, protocol: str = STATIC
) -> Row:
    """A likelihood of binarised digits."""
    last = "(?s:.*)test: "  # what trains in two steps is scored twice
    return Row(f"mnist-{name}", what, theirs, source, protocol, command, last)


def sphere(model: str, d: int, theirs: float) -> Row:
    """A bound of codes on a sphere, or of Gaussian ones."""
    label = f"vmf-vae-vmf-{d}" if model == "vmf-vae" else f"vae-{d}"
    return Row(
        f"{model}-{d}", f"{model}, d = {d}", theirs, "Davidson et al. 2018, arXiv:1804.00891",
        "digits binarised anew, 784–256–128 units, bound of 500 draws; their test pixels are other draws",
        SPHERES + str(d), rf"\| {label} \|[^|]*\|[^|]*\| ",
    )  # fmt: skip


def play(name: str, theirs: float, source: str) -> Row:
    """tiny Shakespeare, by character."""
    return Row(
        f"shakespeare-{name}", "tiny Shakespeare, per character", theirs, source,
        "the last tenth, in separate windows; theirs in random windows", PLAY, BITS, "lower",
        scale=math.log(2),
    )  # fmt: skip


def patches(name: str, whose: str, theirs: float, source: str) -> Row:
    """Natural image patches."""
    return Row(
        f"bsds300-{name}", f"autoregressive spline flow beside {whose}", theirs, source,
        "63 pixels of 8 × 8 patches, dequantised; ours are other patches of the same images",
        PATCHES, r"\| bsds300 \| likely nsf \| ",
    )  # fmt: skip


def lattice(
    name: str, job: str, what: str, theirs: float, source: str, before: str, **options: Any
) -> Row:
    """What a model that was trained on the energy gives."""
    protocol = "trained on the energy alone; 65,536 weighted draws"
    known = {"better": "equal", "unit": ""} | options
    return Row(name, what, theirs, source, protocol, LATTICE + job, before, **known)


ROWS = (
    mnist("nade", "MADE beside NADE", -88.33, "Larochelle & Murray 2011", BINARISED + "--model made"),
    mnist("vae", "VAE beside that of layers 200–200", -88.71, "as nbip/IWAE quotes it", VAE),
    mnist("vae-pythae", "VAE beside that of layers 784–400", -89.78, "pythae's reproductions", VAE),
    mnist("iwae-5", "VAE, then IWAE beside that of 5 draws", -87.63, "as nbip/IWAE quotes it", IWAE),
    mnist("iwae-50", "VAE, then IWAE beside that of 50 draws", -87.10, "as nbip/IWAE quotes it", IWAE),
    mnist("iaf", "VAE with IAF posterior", -95.33, "altosaar/variational-autoencoder", IAF),
    mnist("hvae", "VAE with IAF posterior beside HVAE", -86.40, "as pythae quotes it", IAF),
    mnist("vamp", "VAE with IAF posterior beside VampPrior", -85.57, "as pythae quotes it", IAF),
    mnist("eonade", "gated PixelCNN beside EoNADE-5", -84.68, "Uria et al. 2014", PIXELCNN),
    mnist("darn", "gated PixelCNN beside DARN, a bound", -84.13, "Gregor et al. 2014", PIXELCNN),
    mnist("pixelcnn", "gated PixelCNN beside PixelCNN", -81.30, RECURRENT, PIXELCNN),
    mnist("dynamic", "gated PixelCNN beside PixelCNN of 16 channels", -81.45, "pytorch-generative",
          PIXELCNN, DYNAMIC),
    mnist("pixelrnn-1", "PixelRNN beside diagonal LSTM, 1 layer", -80.75, RECURRENT, PIXELRNN),
    mnist("pixelrnn-7", "PixelRNN beside diagonal LSTM, 7 layers", -79.20, RECURRENT, PIXELRNN),
    mnist("rbm", "RBM of 500 units beside that of CD-25", -86.34, "Salakhutdinov & Murray 2008",
          MACHINE + "--minutes 15"),
    mnist("dbn", "DBN 500–2,000, a bound; theirs an estimate", -84.55, "Murray & Salakhutdinov 2009",
          MACHINE + "--model dbn --minutes 45"),
    mnist("dbm", "DBM 500–1,000, a bound", -84.62, "Salakhutdinov & Hinton 2009", DBM),
    mnist("dbm-yell", "DBM 500–1,000 beside 512–1,024, a bound", -86.37, "yell's README", DBM),
    *(sphere("vmf-vae", d, -nats) for d, nats in ((2, 132.50), (5, 108.43), (10, 93.16))),
    *(sphere("vae", d, -nats) for d, nats in ((2, 135.73), (5, 110.21))),
    Row("qucumber-kl", "Ising chain of 10 sites, KL(exact‖model)", 0.0205, "QuCumber, tutorial 1",
        SHOTS, QUCUMBER, "KL ", "lower"),
    Row("qucumber-fidelity", "the same, quantum fidelity", 0.9898, "QuCumber, tutorial 1",
        SHOTS, QUCUMBER, "quantum fidelity ", unit=""),
    Row("tfim-energy", "critical Ising chain of 50 sites, energy", -63.301189, "free fermions",
        "a model of 200,000 outcomes, 100,000 draws", TFIM, r'"energy": \{\s*"value": ', "equal", ""),
    play("gpu", 1.4697, "nanoGPT, 10 million parameters on a GPU"),
    play("cpu", 1.88, "nanoGPT, its settings for a CPU"),
    patches("realnvp", "RealNVP(10)", 153.28, "Papamakarios et al. 2017, arXiv:1705.07057"),
    patches("maf", "MAF(10)", 154.93, "Papamakarios et al. 2017, arXiv:1705.07057"),
    patches("ffjord", "FFJORD", 157.40, "Grathwohl et al. 2019, arXiv:1810.01367"),
    patches("nsf", "the same", 157.31, "Durkan et al. 2019, arXiv:1906.04032"),
    lattice("phi4-tutorial", "phi4-8-affine", "φ⁴ on 8 × 8 sites, susceptibility", 0.75, ALBERGO,
            "susceptibility ", theirs_error=0.01),
    lattice("u1-tutorial", "u1-8", "U(1) on 8 × 8 sites at β = 2, ⟨Q²⟩", 1.23, ALBERGO, "charge2 ",
            theirs_error=0.02),
    lattice("free-field", "free-8", "free field on 8 × 8 sites, log Z", -11.622885, "closed form",
            "log Z ", unit="nats"),
    lattice("free-field-acceptance", "free-8", "the same, acceptance; theirs at m² = 1.25", 0.7,
            "neumc, “almost 70 %”", "acceptance ", better="higher"),
    lattice("ising-8", "ising-8", "critical Ising spins, 8 × 8, log Z", 60.141781, "Kaufman 1949",
            "log Z ", unit="nats"),
    lattice("ising-16", "ising-16", "critical Ising spins, 16 × 16, log Z", 238.642257, "Kaufman 1949",
            "log Z ", unit="nats"),
)  # fmt: skip


def run(row: Row, data: Path, runs: Path) -> None:
    """Run the command of a row, and write the results of all rows that share it."""
    sharing = [other for other in ROWS if other.command == row.command]
    out = runs / sharing[0].name
    resumed = out.exists()
    command = row.command.format(data=shlex.quote(str(data)), out=shlex.quote(str(out)))
    start, text = time.perf_counter(), ""
    out.mkdir(parents=True, exist_ok=True)
    for part in command.split(" && "):
        program, *arguments = shlex.split(part)
        script = ["-m", "likely"] if program == "likely" else [str(HERE.parent / arguments.pop(0))]
        with subprocess.Popen(
            [sys.executable, *script, *arguments], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                print(line, end="", flush=True)
                text += line
        if process.returncode:
            sys.exit(f"{row.name}: `{part}` ended with status {process.returncode}")
    for other in sharing:
        ours = other.read(text)
        if ours is None:
            sys.exit(f"{other.name}: no number behind {other.before!r} in the output")
        result = {
            "name": other.name,
            "value": ours.value,
            "stderr": ours.stderr,
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "seconds": round(time.perf_counter() - start, 1),
            "resumed": resumed,
            "seed": SEED,
            "command": other.command,
            **provenance("cpu"),
        }
        write_json(RESULTS / f"{other.name}.json", result)
        print(f"{other.name}: {ours}, theirs {other.theirs:.10g}: {other.verdict(ours)}")


def results() -> dict[str, dict[str, Any]]:
    """What has been run with the command that a row has now, by name."""
    found = {}
    for row in ROWS:
        path = RESULTS / f"{row.name}.json"
        if path.exists():
            result = json.loads(path.read_text())
            if result["command"] == row.command:
                found[row.name] = result
    return found


COLUMNS = [
    Column("name", "", "Of the command: `python benchmarks/reproduce.py NAME`.", numeric=False),
    Column("number", "", "What was published.", numeric=False),
    Column("ours", "", "Read from the result file of the run, ± one standard error."),
    Column("theirs", "", "As published, with its error where one was, or exact."),
    Column("unit", "", "Of both.", numeric=False),
    Column(
        "verdict",
        "",
        "Beaten, met (within two errors; of exact values three), short.",
        numeric=False,
    ),
    Column("time", "minutes", "Of the command; ≥ where it went on from an interrupted run."),
    Column("date", "", "Of the run.", numeric=False),
    Column("seed", "", "Of the run."),
    Column("source", "", "Of theirs.", numeric=False),
    Column("protocol", "", "What both were measured on, and what differs.", numeric=False),
]


def page() -> str:
    """All rows as one page."""
    done, cells, verdicts = results(), [], {}
    for row in ROWS:
        text = f"{row.theirs:.10g}" + (f" ± {row.theirs_error:g}" if row.theirs_error else "")
        ours, minutes, date, seed = Cell("–"), Cell("–"), Cell("–"), Cell("–")
        verdicts[row.name] = "not run"
        if result := done.get(row.name):
            figure = Figure(result["value"], result["stderr"])
            verdicts[row.name] = row.verdict(figure)
            spent = result["seconds"] / 60
            ours = Cell(shown(figure), figure.value)
            minutes = Cell(f"{'≥ ' if result['resumed'] else ''}{spent:.1f}", spent)
            date, seed = Cell(result["date"], result["date"]), Cell(str(result["seed"]))
        words = [
            Cell(word, word) for word in (row.unit, verdicts[row.name], row.source, row.protocol)
        ]
        theirs = Cell(text.replace("-", "−"), row.theirs)
        names = Cell(row.name, row.name), Cell(row.what, row.what)
        cells.append([*names, ours, theirs, *words[:2], minutes, date, seed, *words[2:]])

    def named(verdict: str) -> str:
        names = [name for name, found in verdicts.items() if found == verdict]
        return f"{len(names)} {verdict}" + (f" ({', '.join(names)})" if names else "")

    return Page(
        title="Published numbers",
        lead=[
            f"Of {len(ROWS)} numbers {named('beaten')}, {named('met')}.",
            f"{named('short')}; {named('not run')}.",
        ],
        columns=COLUMNS,
        rows=cells,
        notes=["Nothing of ours is typed in: each number comes from the file of its run."],
        sections=[],
        settings=[(row.name, row.command) for row in ROWS],
    ).render()


def main() -> None:
    """List, run, or write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="as --list names them")
    parser.add_argument("--list", action="store_true", help="only name the rows")
    parser.add_argument("--page", action="store_true", help="only write the page")
    parser.add_argument("--data", type=Path, default=HERE.parent.parent / "shared" / "data")
    parser.add_argument(
        "--runs", type=Path, default=Path("runs/reproductions"), help="folder of the runs"
    )
    given = parser.parse_args()
    by_name = {row.name: row for row in ROWS}
    if unknown := [name for name in given.names if name not in by_name]:
        parser.error(f"no such row: {', '.join(unknown)}; --list names them")
    if given.list:
        done = results()
        for row in ROWS:
            state = "" if row.name in done else "  (not run)"
            print(f"{row.name:22} {row.what}: {row.theirs:.10g} {row.unit}, {row.source}{state}")
        return
    if not (given.names or given.page):
        parser.error("name rows, or give --list or --page")
    for command in dict.fromkeys(by_name[name].command for name in given.names):
        run(next(row for row in ROWS if row.command == command), given.data, given.runs)
    (RESULTS / "index.html").write_text(page())
    print(f"page: {RESULTS / 'index.html'}")


if __name__ == "__main__":
    main()
