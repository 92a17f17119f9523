"""Run a part of the campaign: `python tests/campaign/run.py good 10000`, `bad`, `kills` or `hardship`."""

import sys
import time

import bad_inputs
import good_inputs
import hardship
import kills
import tools


def main() -> int:
    """Print what was tried, and each failure."""
    part, n = sys.argv[1], int(sys.argv[2])
    first = int(sys.argv[3]) if len(sys.argv) > 3 else 0
    started = time.perf_counter()
    if part in ("kills", "hardship"):
        counts, failures = {"kills": kills, "hardship": hardship}[part].tally(n, first)
    else:
        counts, failures = tools.tally(
            {"good": good_inputs, "bad": bad_inputs}[part].cases(n, first)
        )
    print("\n".join(failures))
    print(f"{part}: {dict(counts)} in {time.perf_counter() - started:,.0f} s")
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
