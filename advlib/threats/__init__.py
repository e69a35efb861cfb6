"""Threat models: where the adversary may look."""

from advlib.threats.base import Threat as Threat
from advlib.threats.binary import add_only as add_only
from advlib.threats.binary import remove_only as remove_only
from advlib.threats.l0 import L0 as L0
from advlib.threats.l1 import L1 as L1
from advlib.threats.l2 import L2 as L2
from advlib.threats.linf import Linf as Linf
from advlib.threats.motions import Spatial as Spatial
from advlib.threats.negatives import Negative as Negative
from advlib.threats.patches import Patch as Patch
from advlib.threats.patches import Placement as Placement
