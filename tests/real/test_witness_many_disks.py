"""One cut shows one instant, with many disks as with two."""

import pytest
from running import Site
from stamping import check_all_consistent, cut_under_fire


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("disks", "cuts"), [(8, 28), (16, 15)])
def test_groups_show_one_instant(cutting_site: Site, disks: int, cuts: int) -> None:
    """All cuts across many disks on two servers, which are written to all the while, are consistent."""
    check_all_consistent(cut_under_fire(cutting_site, disks=disks, cuts=cuts))
