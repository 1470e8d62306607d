"""Generated images whose class is decided by known pixels, and three small networks trained on them."""

from counterpoint.data.shapes.generator import SMALLEST, ShapeBatch, generate
from counterpoint.data.shapes.loading import NETWORKS, card, load_network
from counterpoint.data.shapes.scene import CLASSES

__all__ = ["CLASSES", "NETWORKS", "SMALLEST", "ShapeBatch", "card", "generate", "load_network"]
