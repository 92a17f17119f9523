"""Compares likely with what one would use instead, on the same work in the same run.

    python benchmarks/run.py                       # everything, about an hour on two cores
    python benchmarks/run.py --only flows          # a part
    python benchmarks/run.py --only flows.maf-train-63 --repeats 3    # a row

`make bench` makes the environments with the other libraries first. A part that was run whole goes into
`results.json` and from there into `RESULTS.md`, in the place of its last run; rows alone, and what ran
with `--repeats 1`, are only printed.
"""

import argparse
import contextlib
import datetime
import importlib
import json
import os
import platform
import subprocess
import sys
import time
import warnings
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

HERE = Path(__file__).resolve().parent
PARTS = (
    "flows",
    "continuous",
    "mixtures",
    "autoencoders",
    "energy",
    "sequences",
    "gans",
    "scores",
    "whole_fit",
    "imports",
    "growth",
    "quality",
)
LIBRARIES = (
    "torch",
    "numpy",
    "zuko",
    "nflows",
    "normflows",
    "torchflows",
    "scikit-learn",
    "pomegranate",
    "pythae",
    "torchebm",
    "diffusers",
    "qucumber",
    "sbi",
)


def part_module(part):
    return importlib.import_module(f"benchmarks.{part}")


def conditions(options, results):
    """Where and with what a part was measured."""
    import torch
    from benchmarks.peers import jax_worker
    from benchmarks.suite import Gap

    versions = {}
    for name in LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "missing"
    if any("flowjax" in result.get("sides", ()) for result in results.values()):
        with contextlib.suppress(Gap, OSError):  # what was measured must not be lost for it
            versions |= jax_worker(options).ask(do="versions")
    return {
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": options.threads,
        "precision": str(torch.get_default_dtype()).removeprefix("torch."),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "python": platform.python_version(),
        "versions": versions,
        "date": datetime.datetime.now().isoformat(" ", "minutes"),
    }


def processor():
    """Its name, which several generations may share, and what tells them apart."""
    facts = {}
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        facts.setdefault(name.strip(), value.strip())
    name = facts.get("model name", platform.processor())
    numbers = [f"{key} {facts[key]}" for key in ("cpu family", "model") if key in facts]
    return f"{name} ({', '.join(numbers)})" if numbers else name


def commit():
    """The short hash, with a mark where the package or the suite has been changed since."""

    def git(*arguments):
        done = subprocess.run(
            ["git", *arguments], cwd=HERE, capture_output=True, text=True, check=False
        )
        return done.stdout.strip()

    changed = git("status", "--porcelain", "--", "../src", "*.py")
    return (git("rev-parse", "--short", "HEAD") or "unknown") + (" with changes" if changed else "")


def page(stored):
    """RESULTS.md."""
    lines = [
        "# Results",
        "",
        "Written by `make bench`; [how it is measured](README.md). Ratios are times of the other library",
        "over ours, from alternating runs: above 1 likely is faster. In brackets are the quartiles.",
        f"All took {sum(entry['seconds'] for entry in stored.values()) / 60:.0f} minutes.",
        "",
        "## Goals",
        "",
        *goals(stored),
    ]
    for part in PARTS:
        if part not in stored:
            continue
        module, entry = part_module(part), stored[part]
        where = entry["conditions"]
        versions = ", ".join(f"{name} {number}" for name, number in where["versions"].items())
        text = (module.__doc__ or "").partition("\n\n")[2].strip()
        lines += [
            f"## {module.TITLE}",
            "",
            *([text, ""] if text else []),
            *module_page(module, entry["rows"]),
            "",
            f"{where['processor']}, {where['cores']} cores, {where['threads']} threads, "
            f"{where['precision']}, {where['capability']}; Python {where['python']}, {versions}; commit "
            f"{where['commit']}, {where['date']}; took {entry['seconds'] / 60:.0f} minutes.",
            "",
        ]
    return "\n".join(lines).rstrip() + "\n"


def module_page(module, results):
    """A part's own page, or the common table."""
    from benchmarks.suite import table

    rows = [row for row in module.ROWS if row.name in results]
    return getattr(module, "table", table)(rows, results)


def goals(stored):
    """The table of what should hold, each against the fastest of the libraries it names."""
    from benchmarks.suite import Row

    newest = max((entry["conditions"] for entry in stored.values()), key=lambda at: at["date"])
    lines = [
        "| goal | against the fastest | ratio (quartiles) | at least | |",
        "|---|---|---|---|---|",
    ]
    for part in PARTS:
        entry = stored.get(part, {"conditions": newest, "rows": {}})
        other = "" if alike(entry["conditions"], newest) else " †"
        rows = [row for row in part_module(part).ROWS if isinstance(row, Row) and row.goals]
        for row in rows:
            sides = entry["rows"].get(row.name, {"sides": {}})["sides"]
            for goal in sorted(set(row.goals.values())):
                named = [name for name in row.goals if row.goals[name] == goal]
                ratios = {name: sides[name]["ratio"] for name in named if name in sides}
                if not ratios:
                    lines.append(f"| {row.work} | | | {goal:g} | not measured |")
                    continue
                fastest = min(ratios, key=lambda name: ratios[name][1])
                low, middle, high = ratios[fastest]
                verdict = "held" if middle >= goal else "**missed**"
                missing = ", ".join(name for name in named if name not in sides)
                lines.append(
                    f"| {row.work} | {fastest} | {middle:.2f} ({low:.2f} to {high:.2f}) | {goal:g} | "
                    f"{verdict}{f', without {missing}' if missing else ''}{other} |"
                )
    if any(line.endswith("† |") for line in lines):
        lines += [
            "",
            "† with another processor, other threads, versions or code than the newest part.",
        ]
    return [*lines, ""]


def alike(here, there):
    """Whether two parts were measured on the same machine with the same libraries and code."""
    return all(here[name] == there[name] for name in ("processor", "threads", "commit")) and all(
        here["versions"][name] == there["versions"][name]
        for name in here["versions"].keys() & there["versions"].keys()
    )


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--only", default="", help="parts or rows, separated by commas")
    parser.add_argument("--list", action="store_true", help="only name the rows")
    parser.add_argument(
        "--repeats",
        type=int,
        help="rounds of each row, by default as time allows; 1 stores nothing",
    )
    parser.add_argument("--seconds", type=float, default=10, help="of a row, after its warm-up")
    parser.add_argument("--minutes", type=float, default=1, help="of each fit of the part quality")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--data", type=Path, default=HERE.parent.parent / "shared" / "data")
    parser.add_argument("--jax", type=Path, default=HERE.parent / ".venv-jax" / "bin" / "python")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of the results")
    return parser.parse_args()


def main():
    # Not this folder: a file here, such as qucumber.py, must not hide a library of its name.
    sys.path[0] = str(HERE.parent)
    given = arguments()
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(given.threads)  # before anything that reads them is imported
    os.environ["TORCHINDUCTOR_FORCE_DISABLE_CACHES"] = "1"  # its times are stated
    os.environ["TQDM_DISABLE"] = "1"  # bars of other libraries
    import torch
    from benchmarks.processes import Processes
    from benchmarks.suite import Options, Row

    torch.set_num_threads(given.threads)
    warnings.simplefilter("ignore")
    options = Options(
        given.threads, given.data, given.jax, given.repeats, given.seconds, given.minutes
    )
    wanted = [name for name in given.only.split(",") if name]
    path = given.out / "results.json"
    stored = json.loads(path.read_text()) if path.exists() else {}
    found = False
    for part in PARTS:
        module = part_module(part)
        rows = [
            row
            for row in module.ROWS
            if not wanted or any(name in (part, row.name) for name in wanted)
        ]
        found = found or bool(rows)
        if given.list:
            print(*(row.name for row in rows), sep="\n")
            continue
        if not rows:
            continue
        start, results, source = time.perf_counter(), {}, commit()
        with Processes(options) as prepare:
            for row in rows:
                print(f"{row.name} …", file=sys.stderr, flush=True)
                apart = {"prepare": prepare} if isinstance(row, Row) else {}
                results[row.name] = row.measure(options, **apart)
        print(*module_page(module, results), sep="\n", flush=True)
        if (not wanted or part in wanted) and given.repeats != 1:
            stored[part] = {
                "conditions": conditions(options, results) | {"commit": source},
                "seconds": time.perf_counter() - start,
                "rows": results,
            }
            path.write_text(json.dumps(stored, indent=1) + "\n")
            if hasattr(module, "draw"):
                module.draw(rows, results, given.out)
            (given.out / "RESULTS.md").write_text(page(stored))
    if not found:
        sys.exit(f"--only {given.only}: no such part or row; --list names them")


if __name__ == "__main__":
    main()
