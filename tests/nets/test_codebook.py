"""The codebook of moving averages against a plain loop and k-means."""

import torch
from sklearn.cluster import KMeans

from likely.nets.codebook import Codebook


def test_moving_averages_are_a_plain_loop_over_sums_and_counts():
    book = Codebook(3, 2, decay=0.9, restart=0.0).double()
    n, m = torch.ones(3).double(), book.vectors.clone()
    for _ in range(50):
        z, weight = torch.randn(20, 2).double(), torch.rand(20).double()
        k = torch.cdist(z, m / n[:, None]).argmin(1)
        assert torch.equal(book.nearest(z), k)
        book.update(z, k, weight)
        for i in range(3):
            n[i] = 0.9 * n[i] + 0.1 * weight[k == i].sum()
            m[i] = 0.9 * m[i] + 0.1 * (weight[k == i, None] * z[k == i]).sum(0)
    torch.testing.assert_close(book.counts, n)
    torch.testing.assert_close(book.vectors, m / n[:, None])


def test_with_constant_data_the_codebook_is_that_of_k_means():
    z = torch.randn(300, 2).double() + torch.tensor([[-3.0, 0], [3, 0], [0, 4]]).repeat(100, 1)
    book = Codebook(3, 2, decay=0.5).double()
    book.start(z)
    start = book.vectors.clone()
    for _ in range(200):
        book.update(z, book.nearest(z))
    lloyd = KMeans(3, init=start.numpy(), n_init=1, tol=0).fit(z.numpy())
    torch.testing.assert_close(book.vectors, torch.from_numpy(lloyd.cluster_centers_))


def test_a_dead_vector_restarts_at_an_output_of_the_encoder():
    book = Codebook(4, 2, decay=0.9)
    book.vectors[3] = 100.0
    z = torch.randn(64, 2)
    for _ in range(40):
        book.update(z, book.nearest(z))
    assert (book.vectors[3] < 10).all()
    assert (book.nearest(z) == 3).any()
    unmoved = Codebook(4, 2, decay=0.9, restart=0.0)
    unmoved.vectors[3] = 100.0
    for _ in range(2000):  # until the count is as good as zero
        unmoved.update(z, unmoved.nearest(z))
    assert (unmoved.vectors[3] == 100).all()
    assert unmoved.vectors.isfinite().all()
