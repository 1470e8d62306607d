"""Networks of torchvision, timm and transformers with random weights meet the methods: `benchmarks/architectures.py` has them all."""

import os

import pytest

from library_networks import ARCHITECTURES, tried

pytestmark = pytest.mark.slow
pytest.importorskip("timm")
pytest.importorskip("transformers")

# One of each way to look at a network; those that need attention, or a rule for each operation, are refused by some.
METHODS = (
    "gradient",
    "integrated_gradients",
    "grad_cam",
    "eigen_cam",
    "occlusion",
    "guided_backprop",
    "attn_lrp",
    "gae",
)
REFUSABLE = ("attn_lrp", "gae")
# Each takes a quarter of a minute: every third by default, COUNTERPOINT_ARCHITECTURES=all for the rest too.
PART = ARCHITECTURES if os.environ.get("COUNTERPOINT_ARCHITECTURES") == "all" else ARCHITECTURES[::3]


@pytest.mark.parametrize("name", PART)
def test_the_methods_work_on_the_architecture_or_say_why_not(name):
    row = tried(name, METHODS)
    assert row.cut in ("split", "replaced")
    for method, cell in row.cells.items():
        assert cell.state == "works" or (method in REFUSABLE and cell.state == "refused"), (method, cell)
