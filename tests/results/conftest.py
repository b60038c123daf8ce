import os

import pytest
from support.browser import browser, install


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    """A browser that pages are looked at with; skipped where it cannot be had, but not in CI."""
    if reason := install():
        needed = os.environ.get("CI") or os.environ.get("RM_ROBUSTNESS_NEEDS_CHROMIUM")
        (pytest.fail if needed else pytest.skip)(reason)
    with browser(tmp_path_factory.mktemp("chromium")) as started:
        yield started
