"""What all tests share: shapes checked at run time, quiet threads, skips that fail where nothing may be skipped."""

import os
from pathlib import Path

# Threads that wait should sleep: on a busy machine spinning ones make a small network twenty times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import jaxtyping
import pytest
import torch
from hypothesis import HealthCheck, settings
from jaxtyping import install_import_hook

# Shapes in annotations are checked here, and only here: 0.1 ms a call.
install_import_hook("counterpoint", "shapes.check")

# Small networks on busy machines: two threads that wait for each other are slower than one.
torch.set_num_threads(1)
settings.register_profile(
    "counterpoint",
    deadline=None,
    max_examples=25,
    derandomize=bool(os.environ.get("CI")),
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("counterpoint")

# The only reasons for which a test may be skipped where CI=true.
_ALLOWED = ("COUNTERPOINT_PHOTOS", "COUNTERPOINT_CUTOUTS", "GPU")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if os.environ.get("CI") and report.skipped and not hasattr(report, "wasxfail"):
        reason = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)
        if not any(word in reason for word in _ALLOWED):
            report.outcome = "failed"
            report.longrepr = f"skipped where nothing may be skipped: {reason}"
    return report


def _folder(variable: str) -> Path:
    path = os.environ.get(variable)
    if not path:
        pytest.skip(f"set {variable} to a folder to run this test")
    return Path(path)


@pytest.fixture
def unchecked():
    """For tests that hand over arrays of a wrong shape or type on purpose: the library's own check must answer."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def photos() -> Path:
    """The folder of labelled ImageNet photographs."""
    return _folder("COUNTERPOINT_PHOTOS")


@pytest.fixture
def cutouts() -> Path:
    """The folder of cut-outs with exact masks."""
    return _folder("COUNTERPOINT_CUTOUTS")
