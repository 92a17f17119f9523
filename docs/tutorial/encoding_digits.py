"""
Autoencoders: denoising and anomalies
=====================================

An autoencoder learns to pass images through a few numbers, their code, and to restore them. It has no
likelihood, and three uses: codes, cleaner images, and a score of what is unlike the data.
"""

import torch

import likely as lk
from likely.report import draw_codes
from likely.report.samples import image_grid

data = lk.load_data("digits")
x = data.test.x[:]

# %%
# Reconstruction
# --------------
# Eight numbers for 64 pixels: digits, and below them what their codes give back.

model = lk.make("ae", data.domain, latent=8, seed=0)
lk.fit(model, data, steps=1500, seed=0)
both = torch.cat([x[:10], model.reconstruct(x[:10]).round()])
picture = image_grid(both.numpy(), data.domain, None, columns=10)
picture

# %%
# Codes
# -----
# Their first coordinates. Nothing makes them Gaussian; that is what the variational autoencoder adds.

picture = draw_codes(model.encode(x))
picture

# %%
# Denoising
# ---------
# A denoising autoencoder sees damaged rows and is asked for the whole ones. Here a fifth of the pixels is
# replaced by noise: damaged images, and below them what it makes of them.

denoiser = lk.make("dae", data.domain, latent=16, seed=0)
lk.fit(denoiser, data, steps=1500, seed=0)
generator = torch.Generator().manual_seed(0)
noise = torch.randint(17, x.shape, generator=generator)
damaged = torch.where(torch.rand(x.shape, generator=generator) < 0.2, noise.to(x.dtype), x)
restored = denoiser.reconstruct(damaged)
both = torch.cat([damaged[:10], restored[:10].round()])
picture = image_grid(both.numpy(), data.domain, None, columns=10)
picture

# %%
# Mean squared difference from the whole images, before and after:

for name, images in (("damaged", damaged), ("restored", restored)):
    print(name, (images - x).double().square().mean().item())

# %%
# Anomalies
# ---------
# Rows that the model cannot restore are unlike the data. Upside-down digits have a higher score than
# held-out ones, for the most part; the area under the ROC curve counts the pairs that stand in the right
# order.

from sklearn.metrics import roc_auc_score

usual, unusual = model.anomaly_score(x), model.anomaly_score(x.flip(1))
truth = torch.cat([torch.zeros(len(usual)), torch.ones(len(unusual))])
print(f"area under the ROC curve: {roc_auc_score(truth, torch.cat([usual, unusual])):.3f}")
