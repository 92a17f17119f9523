import pytest

import likely as lk


def test_a_target_begins_with_its_domain():
    assert lk.Target(lk.reals(2)).domain == lk.reals(2)
    with pytest.raises(lk.LikelyError, match=r"give a domain first, such as lk.reals\(2\)"):
        lk.Target("mystery")
    with pytest.raises(lk.LikelyError, match="context= takes a domain"):
        lk.Target(lk.reals(2), context=3)
    with pytest.raises(TypeError):
        lk.Target(lk.reals(2), "mystery")
