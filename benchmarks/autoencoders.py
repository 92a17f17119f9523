"""Variational autoencoders: an epoch over 10,000 binary images of 28 × 28 pixels.

Batch 128, latent 16, one hidden layer of 512 (pythae's default network), Bernoulli pixels, Adam; each library
by its own trainer, without what comes before the first and after the last step of the epoch.
"""

import tempfile

import torch
from benchmarks.epochs import images, of_fit
from benchmarks.suite import OURS, Options, Row, Side, size

TITLE = "Variational autoencoders"
ROWS_SEEN, BATCH, LATENT, HIDDEN = 10_000, 128, 16, 512


def likely(options: Options) -> Side:
    import likely as lk

    data = images(ROWS_SEEN)

    def model() -> lk.GenerativeModel:
        return lk.make("vae", data.domain, latent=LATENT, hidden=(HIDDEN,), network="mlp", seed=0)

    return Side(
        lambda: of_fit(model(), data, BATCH, weight_decay=0.0),
        size(model()),
        note="`fit` also clips gradients and averages weights; the decoder has a bias for each pixel more",
        own_clock=True,
    )


def pythae(options: Options) -> Side:
    import logging

    from pythae.data.datasets import BaseDataset
    from pythae.models import VAE, VAEConfig
    from pythae.trainers import BaseTrainer, BaseTrainerConfig

    logging.disable(logging.INFO)
    x = images(ROWS_SEEN).train.x.float()
    torch.manual_seed(0)
    model = VAE(VAEConfig(input_dim=(1, 28, 28), latent_dim=LATENT, reconstruction_loss="bce"))
    trainer = BaseTrainer(
        model,
        BaseDataset(x[:, None], torch.zeros(len(x))),
        training_config=BaseTrainerConfig(
            output_dir=tempfile.mkdtemp(),
            learning_rate=1e-3,
            per_device_train_batch_size=BATCH,
            optimizer_cls="Adam",
            no_cuda=True,
        ),
    )
    trainer.prepare_training()
    return Side(lambda: trainer.train_step(1), size(model))


ROWS = [
    Row(
        "autoencoders.vae-epoch",
        "VAE, an epoch of 10,000 images",
        {OURS: likely, "pythae": pythae},
        {"pythae": 1.5},
    )
]
