"""
A GAN on analytic distributions
===============================

A generator turns noise into samples, a critic tells them from data, and each learns from the other. Nothing
here is a likelihood. Where the distribution is known exactly, what was learned can be measured all the
same.
"""

import numpy as np
import scipy.stats

import likely as lk
from likely.report import draw_samples

# %%
# On the line
# -----------
# A Gaussian of mean 1 and deviation 2. Rows of any array are data.

truth = scipy.stats.norm(1, 2)
rows = truth.rvs((20_000, 1), random_state=0)
data = lk.load_data(rows, domain=lk.reals(1))


def distance(x):
    """Wasserstein-1 distance of draws from the truth: the mean shift of its quantiles."""
    quantiles = truth.ppf((np.arange(len(x)) + 0.5) / len(x))
    return np.abs(np.sort(x[:, 0].numpy()) - quantiles).mean()


for name in ("gan", "gan-gp"):
    model = lk.make(name, data.domain, seed=0)
    lk.fit(model, data, steps=1000, seed=0)
    print(f"{name}: Wasserstein-1 distance {distance(model.sample(20_000, seed=1)):.3f}")
print(f"draws of the truth: {distance(data.test.x[:]):.3f}")

# %%
# The level to compare with is the last line: that of as many real rows. The draws of the second GAN:

picture = draw_samples(model.sample(5000, seed=1), data.domain, reference=data.test.x[:])
picture

# %%
# Eight modes
# -----------
# The failure that GANs are known for is to lose modes, and their loss does not show it. On eight Gaussians in
# a ring they can be counted: each should have an eighth of the samples.

ring = lk.load_data("eight-gaussians")
for name in ("gan", "gan-gp"):
    model = lk.make(name, ring.domain, seed=0)
    lk.fit(model, ring, steps=1500, seed=0)
    x = model.sample(4000, seed=1)
    angle = np.arctan2(*x.numpy().T[::-1])
    mode = np.rint(angle / (np.pi / 4)).astype(int) % 8
    print(name, "shares of the modes:", (np.bincount(mode, minlength=8) / len(x)).round(2))

picture = draw_samples(x, ring.domain, reference=ring.test.x[:1000])
picture

# %%
# The longer version, with errors of all figures, is :doc:`gan_1d`.
