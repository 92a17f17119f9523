"""
VAE and WGAN-GP
===============

Two ways to make images from noise: a variational autoencoder maximises a lower bound of the likelihood, a
Wasserstein GAN lets a critic measure how far apart samples and data are. What each is worth is measured
alike in the end.
"""

import likely as lk
from likely.report import draw_samples, draw_training
from likely.report.samples import image_grid

data = lk.load_data("digits")

# %%
# The variational autoencoder
# ---------------------------
# Its likelihood is a bound: log p(x) ≥ E_q[log p(x|z)] − KL(q(z|x) ‖ p(z)). More draws of the codes
# tighten it, by importance weights.

vae = lk.make("vae", data.domain, latent=8, seed=0)
history = lk.fit(vae, data, steps=800, seed=0)
for draws in (1, 16, 128):
    likelihood = vae.log_likelihood(data.test.x, draws=draws, seed=0)
    print(f"{draws:4} draws: {likelihood.kind}, {likelihood.mean()} nats")

# %%
# New digits, and how the bound rose while it learned.

picture = draw_samples(vae.sample(30, seed=1), data.domain)
picture

# %%

picture = draw_training([history.frame])
picture

# %%
# Codes mean something: along a line in the space of codes one digit becomes another.

between = vae.interpolate(data.test.x[:1], data.test.x[1:2], steps=10)
picture = image_grid(between[0].round().numpy(), data.domain, None, columns=10)
picture

# %%
# WGAN-GP
# -------
# The critic's gap between data and samples estimates their Wasserstein distance, up to a factor, as long as
# its slope is held near one; a penalty does that.

gan = lk.make("wgan-gp", data.domain, seed=0)
lk.fit(gan, data, steps=800, seed=0)
picture = draw_samples(gan.sample(30, seed=1), data.domain)
picture

# %%
# It has no likelihood, and says so.

try:
    gan.log_likelihood(data.test.x)
except lk.DensityError as error:
    print(error)

# %%
# What both can be judged by
# --------------------------
# Distances between samples and held-out images, beside their floor: the same distance between two sets of
# real images.

for model in (vae, gan):
    evaluation = lk.evaluate(model, data, rows=300)
    print(lk.contract.registry.name_of(model))
    print(
        "   energy distance", evaluation.energy_distance, "floor", evaluation.energy_distance_floor
    )
    print("   classifier AUC ", evaluation.classifier_auc)
