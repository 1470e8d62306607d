"""FEI: masks that optimise the insertion and deletion curves and keep to the network's own pathway."""

from counterpoint.methods.fei.method import FEI

__all__ = ["FEI"]
