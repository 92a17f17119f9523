"""
Text
====

A running text, one character at a time. Here it is the language reference that comes with Python; any
``.txt`` file will do.
"""

from pathlib import Path
from pydoc_data.topics import topics
from tempfile import TemporaryDirectory

import likely as lk

text = "\n".join(topics.values())
text = "".join(letter for letter in text if letter.isascii())
with TemporaryDirectory() as folder:
    path = Path(folder) / "reference.txt"
    path.write_text(text)
    data = lk.load_data(path, window=64)
print(data.domain, f"{len(text):,} characters")

# %%
# A recurrent network gives each character its probability, given those before it.

model = lk.make("rnn", data.domain, hidden=128, seed=0)
lk.fit(model, data, steps=250, seed=0)

# %%
# Nats for each window of 64 characters; over 64 log 2 they are bits per character. Uniform guesses would
# need log₂ of the number of symbols.

nats = -model.log_likelihood(data.test.x[:500]).mean().value
print(f"{nats / 64 / 0.6931:.2f} bits per character")

# %%
# It writes.

for written in data.domain.texts(model.sample(3, seed=1)):
    print(written, end="\n---\n")
