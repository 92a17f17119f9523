"""
Images
======

Handwritten digits of 8 × 8 pixels with 17 levels of grey. A folder of images is read the same way:
``lk.load_data("folder/")``; folders in it are classes.
"""

import torch

import likely as lk
from likely.report import draw_samples
from likely.report.samples import image_grid

data = lk.load_data("digits")
print(data.domain, len(data.train), "images to learn from")

# %%
# MADE writes the density of an image as a product over its pixels, each given those before it: the
# likelihood is exact. Two hundred steps are a beginning; ``lk.fit(model, data)`` goes on until validation
# stops improving.

model = lk.make("made", data.domain, seed=0)
lk.fit(model, data, steps=400, seed=0)
print(model.log_likelihood(data.test.x).mean(), "nats per image")

# %%
# New digits.

picture = draw_samples(model.sample(30, seed=1), data.domain)
picture

# %%
# Its lower half is unknown: eight ways to complete one image, drawn from the conditional.

known = torch.zeros(8, 8, dtype=torch.bool)
known[:4] = True
x = data.test.x[:1].repeat(8, 1, 1)
picture = image_grid(model.complete(x, known, seed=2).numpy(), data.domain, None, columns=8)
picture

# %%
# What the figures of a model mean is in :doc:`/how-to/read-the-page`.

print(lk.evaluate(model, data, rows=200))
