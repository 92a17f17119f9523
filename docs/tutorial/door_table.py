"""
A table
=======

Measurements of cell nuclei in 569 biopsies, as a DataFrame. Any CSV, Parquet, FITS or ROOT file is read the
same way: ``lk.load_data("events.csv")``.
"""

import sklearn.datasets

import likely as lk
from likely.report import draw_samples

frame = sklearn.datasets.load_breast_cancer(as_frame=True).data[
    ["mean radius", "mean texture", "mean smoothness", "mean symmetry"]
]
data = lk.load_data(frame, domain=dict.fromkeys(frame, "positive"))
print(data.domain)

# %%
# Which model? Several are compared on rows that they have not seen, under the same budget. Log-likelihoods
# are in nats for each row: one nat more means that held-out rows are e ≈ 2.7 times as probable. ``to_html``
# writes the whole page, with pictures.

comparison = lk.compare(["gaussian", "gmm", "maf"], data, steps=300, seeds=2)
print(comparison)

# %%
# Fit one, and draw. Samples come back as a frame with the columns of the data.

model = lk.make("gmm", data.domain, components=3, seed=0)
lk.fit(model, data, epochs=50, seed=0)
model.sample(5, seed=1, as_frame=True)

# %%
# Samples over real rows, which are grey.

x = model.sample(1000, seed=1)
picture = draw_samples(x, data.domain, reference=data.train.x[:])
picture

# %%
# The least probable of the held-out rows.

score = model.anomaly_score(data.test.x[:])
data.domain.frame(data.test.x[:]).assign(score=score).nlargest(3, "score")
