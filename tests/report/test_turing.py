"""The page for people holds everything, in an order that says nothing, with the exact interval."""

import base64
import io
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
import torch
from PIL import Image

import likely as lk
from likely.report import turing_page

N = 60
PAGE = turing_page(torch.ones(N, 4, 4), torch.zeros(N, 4, 4), lk.binary(4, 4), title="<b>", seed=1)


def constants():
    return [json.loads(re.search(rf"{name} = (\[.*?\])[,;] ?(side|interval|$)", PAGE, re.M)[1])
            for name in ("pairs", "side", "interval")]  # fmt: skip


def test_real_images_stand_where_the_answers_say_and_on_either_side():
    pairs, side, interval = constants()
    for images, right in zip(pairs, side, strict=True):
        seen = [
            np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))
            for uri in images
        ]
        assert seen[0].shape == (256, 256, 4)
        assert [image[..., 0].mean() for image in seen] == ([255, 0] if right == 0 else [0, 255])
    assert 15 < sum(side) < 45
    low, high = interval[0]
    assert low == 0
    assert high == pytest.approx(1 - 0.025 ** (1 / N))  # Clopper & Pearson where none is right
    assert interval[N // 2][0] == pytest.approx(1 - interval[N // 2][1])
    assert "http" not in PAGE
    assert "&lt;b&gt;" in PAGE


SCRIPT = """
const element = () => ({ firstChild: {}, style: {}, addEventListener() {} });
const byId = { place: element(), result: element(), pair: element() }, keys = [];
globalThis.document = {
  querySelectorAll: () => [element(), element()], getElementById: id => byId[id],
  addEventListener: (_, listener) => keys.push(listener),
};
%s
for (const right of side) keys[0]({ key: right === 0 ? "ArrowLeft" : "ArrowRight" });
console.log(byId.result.textContent);
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="needs Node.js to run the page's script")
def test_whoever_always_chooses_the_real_image_is_told_so():
    script = re.search(r"<script>(.*)</script>", PAGE, re.S)[1]
    whole = SCRIPT % script
    done = subprocess.run(
        ["node"], input=whole, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.startswith("60 of 60 right: 100.0 %, 95 % interval 94.0 % to 100.0 %.")
    assert "You can tell" in done.stdout


def test_refusals():
    with pytest.raises(lk.DomainError, match="people judge images"):
        turing_page(torch.zeros(2, 3), torch.zeros(2, 3), lk.reals(3))
    with pytest.raises(lk.DataError, match="0 real and 0 drawn"):
        turing_page(torch.zeros(0, 4, 4), torch.zeros(0, 4, 4), lk.binary(4, 4))
