"""Tests marked ``peers`` need tools of other makers; see :mod:`tests.support.tools` for what is skipped when."""

import pytest

from tests.support import tools


def pytest_runtest_setup(item: pytest.Item) -> None:
    """``@pytest.mark.peers`` needs DCMTK, ``@pytest.mark.peers("orthanc", "dcmtk")`` what it names."""
    for marker in item.iter_markers("peers"):
        tools.need(*(marker.args or ("dcmtk",)))
