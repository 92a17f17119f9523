"""
An energy
=========

No data at all: what is known is an energy E(x), and what is wanted are log Z = log ∫ e^(−E(x)) dx and
averages with density e^(−E)/Z. A flow is trained on the energy; its draws are then weighed, so that the
answers are right however good it is, which decides only their errors.
"""

import likely as lk
from likely.report import draw_samples

target = lk.targets.phi4(4, 4, mass2=-4, coupling=8)  # a scalar field on a lattice of 4 × 4 sites
model = lk.make("nsf-coupling", target.domain, seed=0)
lk.fit(model, target, steps=300, seed=0)
w = lk.reweight(model, target, 16_384, seed=0)
print(w)

# %%
# log Z and the susceptibility beside what is known exactly.

print("log Z", w.log_z, "exact", target.log_z)
print("χ₂   ", w.expect(lk.targets.susceptibility), "exact", target.observables["susceptibility"])

# %%
# Fields that were drawn.

picture = draw_samples(model.sample(20, seed=1), target.domain)
picture

# %%
# An energy of one's own is a function of rows. Two wells, unequally deep:


def energy(x):
    r, s = x.T
    return r**4 / 4 - 3 * r**2 + r / 2 + s**2 / 2


own = lk.Target(lk.reals(2), energy=energy, name="wells")
flow = lk.make("nsf-coupling", own.domain, seed=0)
lk.fit(flow, own, steps=300, seed=0)
weighted = lk.reweight(flow, own, seed=0)
print("p(left) =", weighted.expect(lambda x: (x[:, 0] < 0).double()))
for note in weighted.notes:
    print(note)

# %%
# A flow may miss a well without noticing. :doc:`/how-to/energies` says how to find out.
