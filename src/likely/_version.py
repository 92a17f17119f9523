"""The version of the package, and of what it runs on."""

import os
import platform

__version__ = "0.2.0.dev0"


def compatible(version: str) -> bool:
    """Whether another version writes what this one can go on with: they differ in the patch at most."""
    return version.split(".")[:2] == __version__.split(".")[:2]


def provenance(device: object) -> dict[str, str]:
    """The machine, and the versions of the libraries, that computed a result on a device."""
    import numpy as np
    import torch

    return {
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, "
        f"{torch.get_num_threads()} threads, {device}",
        "versions": f"likely {__version__}, Python {platform.python_version()}, "
        f"torch {torch.__version__}, numpy {np.__version__}",
    }
