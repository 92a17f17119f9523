"""Drawing images from a PixelCNN: with caches, against running the whole network again for each pixel.

    python benchmarks/pixels.py

Both draw the same images. Of running the network again, some pixels are timed, which all take equally long.
"""

import argparse
import time

import torch

import likely as lk

EDGE, PIXELS = 28, 4


@torch.no_grad()
def main() -> None:
    """Time both, print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-n", type=int, default=100, help="images")
    n = parser.parse_args().n
    model = lk.make("pixelcnn", lk.binary(EDGE, EDGE, layout="image"), seed=0).eval()
    x = model.sample(n, seed=0)
    start = time.perf_counter()
    model.sample(n, seed=1)
    cached = time.perf_counter() - start
    start = time.perf_counter()
    for _ in range(PIXELS):
        model.log_prob(x)
    again = (time.perf_counter() - start) / PIXELS * EDGE**2
    print(
        f"{n} images of {EDGE} × {EDGE}: {cached:.2f} s with caches, {again:.0f} s with the network "
        f"again for each pixel: {again / cached:.0f} times as fast"
    )


if __name__ == "__main__":
    main()
