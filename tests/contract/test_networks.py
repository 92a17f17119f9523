"""Networks of one's own, and encoders of contexts that are arrays."""

import math

import pytest
import torch
from torch import nn

import likely as lk
from likely.contract import networks, options
from likely.contract.networks import Encoded
from likely.contract.registry import entries, find
from likely.contract.training import Batch

IMAGE = lk.reals(6, 5, layout="image")
DOMAINS = [
    lk.reals(2),
    lk.binary(4, 4, layout="image"),
    lk.binary(16, 16, layout="image"),
    lk.reals(4, 4, layout="lattice"),
    lk.Domain((2, 4, 4), (lk.Periodic(-math.pi, math.pi),), layout="lattice"),
    lk.categories(3, 4),
    lk.categories(4),
]
ENCODED = [
    name
    for name, entry in entries().items()
    if "context_encoder" in options.signature(entry.cls).parameters
    and entry.family != "user"
    and name != "jem"  # the context is the class
]


def built(name, encoder, **hyperparameters):
    """A model of the first domain that it takes, and rows."""
    domain = next(domain for domain in DOMAINS if find(name).takes(domain, IMAGE))
    model = lk.make(name, domain, context=IMAGE, context_encoder=encoder, seed=0, **hyperparameters)
    u = torch.rand(32, *domain.shape)
    return model, (u > 0.5).long() if domain.discrete else u


@pytest.mark.parametrize("name", ENCODED)
def test_every_conditional_family_trains_an_encoder(name):
    groups = {"independent": ((0, 1), (2,))} if name == "hsic-vae" else {}
    model, x = built(name, "cnn", **groups)
    batch = Batch(x, torch.randn(len(x), 6, 5))
    model.prepare(batch)
    model.train()
    encoder = dict(model.context_features.encoder.named_parameters())
    trained = []
    for objective in model.stages()[0].objectives():
        of = [key for key, p in encoder.items() if any(p is q for q in objective.parameters)]
        if not of:
            continue
        trained += of
        for parameter in encoder.values():
            parameter.grad = None
        for p in model.parameters():  # networks that start at zero pass no gradient on
            p.data += 0.01 * torch.randn_like(p)
        objective.loss(batch).mean().backward()
        assert all(encoder[key].grad.abs().sum() > 0 for key in of)
    assert sorted(trained) == sorted(encoder)  # by one objective each


def test_families_that_take_no_context_have_no_such_option():
    with pytest.raises(lk.LikelyError, match="no option 'context_encoder'"):
        lk.make("gmm", lk.reals(2), context_encoder="cnn")


SHAPES = {
    "cnn": [lk.reals(5, 5), lk.reals(3, 5, 5), lk.integers(4, 5, 5), lk.categories(3, 2, 5, 5)],
    "gru": [lk.reals(7), lk.reals(7, 3), lk.categories(4, 7)],
    "deepsets": [lk.reals(7), lk.reals(7, 3), lk.binary(7, 2)],
}


@pytest.mark.parametrize(
    ("name", "domain"), [(name, domain) for name, domains in SHAPES.items() for domain in domains]
)
def test_encoders_take_arrays_of_every_kind(name, domain):
    features = Encoded(domain, name)
    x = domain.anchor.expand(9, *domain.shape)
    features.prepare(x)
    assert features(x).shape == (9, features.size)


def test_places_share_a_scale_and_channels_have_their_own():
    x = torch.randn(500, 7, 2) * torch.tensor([1.0, 100.0]) + torch.tensor([0.0, 1000.0])
    features = Encoded(lk.reals(7, 2), "deepsets")
    features.prepare(x)
    seen = features._arrays(x)
    assert seen.shape == x.shape
    torch.testing.assert_close(seen.mean((0, 1)), torch.zeros(2), atol=1e-4, rtol=0)
    torch.testing.assert_close(seen.std((0, 1)), torch.ones(2), atol=1e-3, rtol=0)
    assert features.features.domain.size == 2


def test_the_order_of_a_set_does_not_matter():
    model = lk.make("maf", lk.reals(2), context=lk.reals(7, 2), context_encoder="deepsets", seed=0)
    x, context = torch.randn(20, 2), torch.randn(20, 7, 2)
    model.prepare(Batch(x, context))
    turned = context[:, torch.randperm(7)]
    torch.testing.assert_close(model.log_prob(x, turned), model.log_prob(x, context))


class Seen(nn.Module):
    """Remembers the shape of what it sees."""

    def forward(self, x):
        self.shape = x.shape[1:]
        return x.flatten(1)[:, :3]


def test_a_network_without_a_channel_axis_sees_the_context_as_it_is():
    encoder = Encoded(lk.reals(4, 5), Seen())
    assert encoder.encoder.shape == (4, 5)
    assert Encoded(lk.categories(3, 4, 5), Seen()).encoder.shape == (4, 5, 3)


def test_one_context_for_all_draws_is_encoded_once():
    model = lk.make("nsf", lk.reals(2), context=IMAGE, context_encoder="cnn", transforms=1)
    rows = []
    model.context_features.encoder.register_forward_hook(lambda _, i, o: rows.append(len(o)))
    context = torch.randn(6, 5)
    one = model.sample(50, context=context, seed=0)
    assert rows == [1]
    each = model.sample(50, context=context.expand(50, 6, 5), seed=0)
    torch.testing.assert_close(one, each)


@pytest.fixture
def own():
    """A registered network whose argument is another."""

    @lk.register_module("own-encoder")
    class Own(nn.Module):
        def __init__(self, inner, scale: float = 2.0, *, widths=(4, 4)):
            super().__init__()
            self.inner, self.scale = inner, scale

        def forward(self, x):
            return self.scale * self.inner(x)

    yield Own
    del networks._modules["own-encoder"]


def saved(tmp_path, encoder):
    model = lk.make(
        "nsf", lk.reals(2), context=IMAGE, context_encoder=encoder, transforms=1, seed=0
    )
    model.prepare(Batch(torch.randn(20, 2), torch.randn(20, 6, 5)))
    lk.save(model, tmp_path / "m.safetensors")
    return model


def same(model, again):
    context = torch.randn(4, 6, 5)
    x = model.sample(4, context=context, seed=0)
    assert torch.equal(again.sample(4, context=context, seed=0), x)
    assert torch.equal(again.log_prob(x, context), model.eval().log_prob(x, context))


def test_registered_networks_are_saved_by_name_with_their_arguments(own, tmp_path):
    encoder = own(lk.nets.CNN((1, 6, 5), outputs=3), scale=0.5)
    model = saved(tmp_path, encoder)
    again = lk.load(tmp_path / "m.safetensors")
    same(model, again)
    found = again.hyperparameters["context_encoder"]
    assert (found.scale, found.registered[1]["widths"]) == (0.5, (4, 4))


def test_a_named_encoder_is_saved(tmp_path):
    model = saved(tmp_path, "cnn")
    same(model, lk.load(tmp_path / "m.safetensors"))


def test_an_unregistered_network_is_passed_again(tmp_path):
    class Mine(nn.Sequential):
        pass

    def mine(outputs=3):
        return Mine(nn.Flatten(), nn.Linear(30, outputs))

    model, path = saved(tmp_path, mine()), tmp_path / "m.safetensors"
    same(model, lk.load(path, context_encoder=mine()))
    with pytest.raises(
        lk.ArtifactError, match=r"m\.safetensors: its context_encoder is a Mine.*load"
    ):
        lk.load(path)
    with pytest.raises(lk.ArtifactError, match="size mismatch"):
        lk.load(path, context_encoder=mine(4))


def test_a_subclass_of_a_registered_network_is_not_registered(own, tmp_path):
    class Other(own):
        pass

    saved(tmp_path, Other(nn.Flatten()))
    with pytest.raises(lk.ArtifactError, match="a Other, a network that is not registered"):
        lk.load(tmp_path / "m.safetensors")


def test_each_model_has_a_copy_of_its_own():
    encoder = lk.nets.CNN((1, 6, 5))
    first, second = (
        lk.make("maf", lk.reals(2), context=IMAGE, context_encoder=encoder) for _ in range(2)
    )
    assert first.context_features.encoder is not second.context_features.encoder


class Noise(nn.Module):
    """ε̂ of rows of two, whatever their level."""

    def __init__(self):
        super().__init__()
        self.net = nn.Linear(3, 2)

    def forward(self, z, level, context):
        assert level.shape == z.shape[:1]
        assert context is None
        return self.net(torch.cat([z, level[:, None]], 1))


@pytest.mark.parametrize("name", ["ddpm", "flow-matching"])
def test_score_models_take_a_network(name, tmp_path):
    model = lk.make(name, lk.reals(2), network=Noise(), seed=0)
    data = lk.Data(lk.reals(2), *(lk.data.Split(torch.randn(64, 2)) for _ in range(3)))
    lk.fit(model, data, steps=5)
    lk.save(model, tmp_path / "m.safetensors")
    again = lk.load(tmp_path / "m.safetensors", network=Noise())
    assert torch.equal(again.sample(4, seed=0), model.sample(4, seed=0))


@pytest.mark.parametrize("spectral_norm", [False, True])
def test_an_energy_takes_a_network(spectral_norm, tmp_path):
    domain = lk.reals(8, 8, layout="image")
    network = lk.nets.CNN((1, 8, 8), outputs=1, hidden=(4,))
    model = lk.make("ebm", domain, network=network, spectral_norm=spectral_norm, seed=0)
    model.prepare(Batch(x := torch.randn(64, 8, 8)))
    model.loss(Batch(x)).mean().backward()
    assert all(p.grad.abs().sum() > 0 for p in model.network.parameters() if p.ndim > 1)
    lk.save(model, tmp_path / "m.safetensors")
    again = lk.load(tmp_path / "m.safetensors")
    assert torch.equal(again.free_energy(x), model.eval().free_energy(x))


def make(**hyperparameters):
    return lk.make("maf", lk.reals(2), **hyperparameters)


UNSUITABLE = {
    "there is no context": lambda: make(context_encoder="cnn"),
    "unknown network 'cn': there are cnn, deepsets, gru": lambda: make(
        context=IMAGE, context_encoder="cn"
    ),
    "of different kinds": lambda: make(
        context=lk.table(lk.Real(), lk.Binary()), context_encoder="deepsets"
    ),
    r"CNN takes arrays of more axes than \(5,\)": lambda: make(
        context=lk.reals(5), context_encoder="cnn"
    ),
    r"Linear does not take arrays of shape \(6, 5\)": lambda: make(
        context=IMAGE, context_encoder=nn.Linear(7, 2)
    ),
    r"Linear gives \(2, 6, 4\) for 2 rows": lambda: make(
        context=IMAGE, context_encoder=nn.Linear(5, 4)
    ),
    "Linear does not take rows of shape": lambda: lk.make(
        "ebm", lk.reals(2), network=nn.Linear(3, 1)
    ),
    r"Linear gives \(2, 2\) for 2 rows, and 1": lambda: lk.make(
        "ebm", lk.reals(2), network=nn.Linear(2, 2)
    ),
    "periodic columns": lambda: lk.make(
        "ebm", lk.table(lk.Periodic(0, 1)), network=nn.Linear(1, 1)
    ),
    "leave constant columns out": lambda: lk.make(
        "ddpm", lk.table(lk.Real(), lk.Constant(1)), network=nn.Linear(1, 1)
    ),
    "network=3: give one of 'auto', 'mlp', 'unet', or a Module": lambda: lk.make(
        "ddpm", lk.reals(2), network=3
    ),
    "context_encoder=3: give a Module": lambda: make(context=IMAGE, context_encoder=3),
    'independent="context" compares columns': lambda: lk.make(
        "hsic-vae", lk.reals(2), context=IMAGE, context_encoder="cnn"
    ),
}


@pytest.mark.parametrize("message", UNSUITABLE)
def test_what_does_not_suit_is_told(message):
    with pytest.raises(lk.LikelyError, match=message):
        UNSUITABLE[message]()


def test_arguments_without_names_or_json_are_refused(tmp_path):
    with pytest.raises(lk.LikelyError, match="Loose takes 'layers' without names"):

        @lk.register_module("loose")
        class Loose(nn.Module):
            def __init__(self, *layers):
                super().__init__()

    try:

        @lk.register_module("picky")
        class Picky(nn.Module):
            def __init__(self, activation):
                super().__init__()

            def forward(self, x):
                return x.flatten(1)

        with pytest.raises(lk.LikelyError, match="arguments of the network Picky cannot be saved"):
            saved(tmp_path, Picky(torch.relu))
    finally:
        del networks._modules["picky"]
