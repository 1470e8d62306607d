"""Record, modify, clip and cap the activations of a network and their gradients, while a `with` block lasts.

The modes here see every call of a torch function on their thread: modules, functional code, in-place and reused activations alike.
Nothing is put on the model, and all ends with the block. Forward values stay what they are, bit for bit, but under `Cap`. Not seen is what
runs inside one compiled or scripted step, or inside a function that torch offers as a whole; of these `attention` looks into
`nn.MultiheadAttention` and fused attention.
"""

from counterpoint.activations.attention import FUSED, Attending, AttentionCall, DotProducts, MultiHead
from counterpoint.activations.capping import Cap
from counterpoint.activations.chosen import ACTIVATIONS, SATURATING, Activation, Layers
from counterpoint.activations.clipping import AIMS, CLIP_RULES, Aim, Clip, ClipRule, check_clip
from counterpoint.activations.following import Following, Watch
from counterpoint.activations.modes import Mode, Pull, Recorded, Recording, Replay, Under, with_gradient
from counterpoint.activations.operations import ELEMENTWISE, RECTIFIERS, Operation, is_weight, name_of
from counterpoint.activations.pathway import Pathway, Reading
from counterpoint.activations.rectified import RECTIFIER_RULES, Rectified, RectifierRule

__all__ = [
    "ACTIVATIONS",
    "AIMS",
    "CLIP_RULES",
    "ELEMENTWISE",
    "FUSED",
    "RECTIFIERS",
    "RECTIFIER_RULES",
    "SATURATING",
    "Activation",
    "Aim",
    "Attending",
    "AttentionCall",
    "Cap",
    "Clip",
    "ClipRule",
    "DotProducts",
    "Following",
    "Layers",
    "Mode",
    "MultiHead",
    "Operation",
    "Pathway",
    "Pull",
    "Reading",
    "Recorded",
    "Recording",
    "Rectified",
    "RectifierRule",
    "Replay",
    "Under",
    "Watch",
    "check_clip",
    "is_weight",
    "name_of",
    "with_gradient",
]
