"""Digits seen by two instruments, and codes that are not to tell which.

    python benchmarks/nuisance.py --steps 1000

Every other image has half of its contrast. Three autoencoders are told which instrument an image is from: a
conditional VAE, and two with penalties on the Hilbert–Schmidt criterion between codes and instrument; a plain
VAE is not told. Printed are the bound on the test images' log-likelihood, and how often classifiers, each
trained on the codes of four fifths of all images, name the instrument of the rest: the best of a logistic
regression, a random forest, and a perceptron. Chance is 50 %. Codes are draws of q(z|x). Its mean holds
more: q is wider for faint images, and means that lie nearer to the prior's are easily told.
"""

import argparse

import torch
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.neural_network import MLPClassifier

import likely as lk
from likely.core.random import seeded

MODELS = {
    "vae, not told": ("vae", {}),
    "vae": ("vae", {}),
    "hsic-vae, λ = 100": ("hsic-vae", {"penalty": 100.0}),
    "hsic-vae, λ = 300": ("hsic-vae", {"penalty": 300.0}),
}
CLASSIFIERS = (
    LogisticRegression(max_iter=1000),
    RandomForestClassifier(200, min_samples_leaf=5, random_state=0),
    MLPClassifier((64,), alpha=1e-2, max_iter=300, early_stopping=True, random_state=0),
)


def two_instruments(split: lk.data.Split) -> lk.data.Split:
    """Every other image with half of its contrast, and which they are."""
    x = split.x[:]
    dim = torch.arange(len(x)) % 2
    return lk.data.Split(torch.where(dim[:, None, None] == 1, x // 2, x), dim[:, None])


def told(codes: torch.Tensor, instrument: torch.Tensor) -> tuple[float, float]:
    """The share of images whose instrument the best classifier names, and its standard error."""
    best = max(
        cross_val_score(classifier, codes.numpy(), instrument.numpy(), cv=5).mean()
        for classifier in CLASSIFIERS
    )
    return best, (best * (1 - best) / len(codes)) ** 0.5


def main() -> None:
    """Fit, score, classify, print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--latent", type=int, default=8)
    options = parser.parse_args()
    digits = lk.load_data("digits")
    splits = [two_instruments(split) for split in (digits.train, digits.valid, digits.test)]
    x, context = (
        torch.cat([getattr(split, part) for split in splits]) for part in ("x", "context")
    )
    print("| model | test, nats | told by codes | by their means |\n|---|---|---|---|")
    for label, (name, penalty) in MODELS.items():
        data = lk.Data(digits.domain, *splits, context=lk.binary(1))
        if "not told" in label:
            data = lk.Data(digits.domain, *[lk.data.Split(split.x) for split in splits])
        model = lk.make(
            name,
            data.domain,
            context=data.context,
            latent=options.latent,
            network="mlp",
            seed=0,
            **penalty,
        )
        lk.fit(model, data, steps=options.steps, seed=0)
        given = {} if data.context is None else {"context": data.test.context}
        bound = model.log_likelihood(data.test.x, seed=0, draws=64, **given).mean()
        with torch.no_grad(), seeded(0):
            q = model.posterior(x, **({} if data.context is None else {"context": context}))
            draws = q.draw(1)[0][0]
        shares = [told(codes, context[:, 0]) for codes in (draws, q.mean)]
        told_by = " | ".join(f"{100 * share:.1f} ± {100 * error:.1f} %" for share, error in shares)
        print(f"| {label} | {bound} | {told_by} |", flush=True)


if __name__ == "__main__":
    main()
