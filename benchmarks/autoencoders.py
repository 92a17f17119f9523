"""Variational autoencoders: an epoch over 9,984 binary images of 28 × 28 pixels.

Batch 128, latent 16, one hidden layer of 512 (pythae's default network), Bernoulli pixels, Adam (fused); each
library by its own trainer, from its first step to its last.
"""

import tempfile

import torch
from benchmarks.epochs import images, of_fit, of_steps
from benchmarks.suite import OURS, Options, Row, Side, size

TITLE = "Variational autoencoders"
BATCH, LATENT, HIDDEN = 128, 16, 512
ROWS_SEEN = 78 * BATCH  # `fit` leaves out what does not fill a batch


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
    with tempfile.TemporaryDirectory() as folder:
        trainer = BaseTrainer(
            model,
            BaseDataset(x[:, None], torch.zeros(len(x))),
            training_config=BaseTrainerConfig(
                output_dir=folder,
                learning_rate=1e-3,
                per_device_train_batch_size=BATCH,
                optimizer_cls="Adam",
                optimizer_params={"fused": True},
                no_cuda=True,
            ),
        )
        trainer.prepare_training()
    return Side(
        lambda: of_steps(trainer, "_optimizers_step", lambda: trainer.train_step(1)),
        size(model),
        own_clock=True,
    )


ROWS = [
    Row(
        "autoencoders.vae-epoch",
        "VAE, an epoch of 9,984 images",
        {OURS: likely, "pythae": pythae},
        {"pythae": 1.5},
        bound="products take 46 % of the time, the optimizer 12 %, clipping and averaged weights, which "
        "pythae does without, 11 %; the rest are passes over 128 × 784 pixels",
    )
]
