"""
Measurements of a quantum state
===============================

Six spins in the state ``(|↑↑↑↑↑↑⟩ + |↓↓↓↓↓↓⟩)/√2``, each measured by four outcomes that together determine
the state. From the outcomes alone a recurrent network learns their distribution.
"""

from likely.quantum import PAULI, Measurement, Shots, ghz, povm, reconstruct
from likely.report import draw_samples

state = ghz(6).state
effects = povm("tetrahedral")
outcomes = Measurement(state, effects).sample(20_000, seed=0)
shots = Shots(outcomes, effects, state=state)
picture = draw_samples(outcomes[:60], effects.domain(6))
picture

# %%
# Outcomes of your own are an array of whole numbers, ``Shots(array, povm("tetrahedral"))``, or a file.
# Where the state is known, as here, everything is compared with it.

found = reconstruct(shots, "rnn", epochs=4, seed=0, draws=10_000)
for sentence in found.summary():
    print(sentence)

# %%
# The same for other models, and for Markov chains as a baseline:

from rich.console import Console

Console(width=110).print(found.rich_table())

# %%
# What must come out: ⟨σᶻσᶻ⟩ = 1 between any two sites.

print(state.correlators(PAULI["z"], PAULI["z"]))

# %%
# ``found.to_html("reconstruction.html")`` writes the page with correlators and the density matrix. Ground
# states of chains come from DMRG, with the extra ``quantum``: ``likely quantum measure --chain tfim --sites
# 50 …``.
