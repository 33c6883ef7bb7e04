import pytest

from autofit.hardware.host import host_adam_rate


@pytest.mark.parametrize(("billion", "published_s"), [(1, 0.22), (2, 0.51), (4, 1.03), (8, 2.41), (10, 2.57)])
def test_the_published_machine(billion, published_s):
    assert billion * 1e9 / host_adam_rate(48) == pytest.approx(published_s, rel=0.2)


def test_cores_count_until_memory_is_the_limit():
    assert host_adam_rate(12) == host_adam_rate(48) / 4
    assert host_adam_rate(128) == host_adam_rate(48)
