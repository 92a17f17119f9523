"""Sentences: a variational autoencoder of texts beside a language model of the same size.

    python benchmarks/sentences.py kjv_verses.txt.gz --minutes 30 --out runs/sentences

The file holds a sentence a line; those of more than 40 words and marks are left out. Both models see the same
words and have the same units. Figures are of test sentences: nats per sentence, and perplexities that count
the end of a sentence as a word, and that do not. Those of the autoencoder are bounds. Its KL says whether the
decoder uses codes: near 0 it is a language model, and all interpolations are the same sentence.
"""

import argparse
import warnings
from pathlib import Path

import likely as lk
from likely.evaluation.text import lengths, nats_per_symbol, perplexity

SIZE = {"hidden": 256, "embedding": 128}
MODELS = {"rnn": SIZE, "sentence-vae": {**SIZE, "latent": 16}}
DRAWS = 32  # of the importance-weighted bound
LONGEST = 40


def report(model: lk.GenerativeModel, data: lk.Data, rows: int) -> list[str]:
    """Figures of one model on test sentences."""
    x, lines = data.test.x[:rows], []
    likelihoods = {"": model.log_likelihood(x, seed=0)}
    if isinstance(model, lk.autoencoders.SentenceVAE):
        draws = model.log_likelihood(x, seed=0, draws=DRAWS)
        likelihoods = {", ELBO": model.elbo(x, seed=0, draws=4), f", {DRAWS} draws": draws}
    for label, found in likelihoods.items():
        per_word = nats_per_symbol(found.value, lengths(data.domain, x))
        with_ends, without = (
            perplexity(found.value, lengths(data.domain, x, ends)) for ends in (True, False)
        )
        lines.append(
            f"{found.kind}{label}: {-found.mean().value:.2f} nats per sentence, {per_word} per word with "
            f"ends; perplexity {with_ends} with ends, {without} without"
        )
    return lines


def main() -> None:
    """Fit both models, and print figures, samples and interpolations."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", type=Path, help="a .txt or .txt.gz file")
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--minutes", type=float, help="of each training; by default 15")
    budget.add_argument("--steps", type=int)
    parser.add_argument("--vocabulary", type=int, default=10_000)
    parser.add_argument("--rows", type=int, default=1000, help="test sentences that are scored")
    parser.add_argument("--word-dropout", type=float, default=0.25)
    parser.add_argument("--free-bits", type=float, default=0.25, help="of each latent variable")
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    arguments = parser.parse_args()
    minutes = 15.0 if arguments.steps is None and arguments.minutes is None else arguments.minutes
    with warnings.catch_warnings(record=True) as notes:
        data = lk.load_data(
            arguments.path, words=True, vocabulary=arguments.vocabulary, length=LONGEST, long="drop"
        )
    print(data, *(note.message for note in notes), sep="\n")
    MODELS["sentence-vae"] |= {
        "word_dropout": arguments.word_dropout,
        "free_bits": arguments.free_bits,
    }
    for name, options in MODELS.items():
        model = lk.make(name, data.domain, seed=0, **options)
        history = lk.fit(
            model,
            data,
            batch=64,
            minutes=minutes,
            steps=arguments.steps,
            run=arguments.out / name,
            precision="bf16-mixed",
        )
        print(f"\n{name}: {history.steps:,} steps in {history.seconds:,.0f} s")
        print(*report(model, data, arguments.rows), sep="\n")
        print("samples:", *data.domain.texts(model.sample(4, seed=1)), sep="\n  ")
    assert isinstance(model, lk.autoencoders.SentenceVAE)
    x = data.test.x[: arguments.rows]
    print(f"\nKL {model.kl(x).mean():.2f} nats per sentence")
    short = x[lengths(data.domain, x) <= 16][:6]
    for walk in model.interpolate(short[:3], short[3:6], steps=5):
        print("interpolation:", *data.domain.texts(walk), sep="\n  ")


if __name__ == "__main__":
    main()
