"""Input transforms, and gradient sources that look through them: what lets adversarial inputs transfer."""

from advlib.transforms.blocks import block_shuffle as block_shuffle
from advlib.transforms.blocks import block_structure as block_structure
from advlib.transforms.images import Transform as Transform
from advlib.transforms.images import admixture as admixture
from advlib.transforms.images import resize_and_pad as resize_and_pad
from advlib.transforms.images import scales as scales
from advlib.transforms.images import spectrum as spectrum
from advlib.transforms.images import unchanged as unchanged
from advlib.transforms.sources import around as around
from advlib.transforms.sources import averaged as averaged
from advlib.transforms.sources import translation_invariant as translation_invariant
