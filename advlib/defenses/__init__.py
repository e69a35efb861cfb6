"""What the defender minimises: one file per objective. This list is what exists.

Historical defences are those that an attack is known to break: they hide the gradient in place of being robust. They
are here to be compared with, and :data:`HISTORICAL` says what breaks each.
"""

from advlib.defenses.adversarial import AdversarialTraining as AdversarialTraining
from advlib.defenses.adversarial import mixed_loss as mixed_loss
from advlib.defenses.adversarial import noisy_fgsm as noisy_fgsm
from advlib.defenses.awp import awp as awp
from advlib.defenses.base import LossOutput as LossOutput
from advlib.defenses.base import Objective as Objective
from advlib.defenses.distillation import DefensiveDistillation as DefensiveDistillation
from advlib.defenses.distillation import distill as distill
from advlib.defenses.distillation import distillation_loss as distillation_loss
from advlib.defenses.ensemble import EnsembleAdversarialTraining as EnsembleAdversarialTraining
from advlib.defenses.free import FreeAdversarialTraining as FreeAdversarialTraining
from advlib.defenses.mart import MART as MART
from advlib.defenses.mart import mart_loss as mart_loss
from advlib.defenses.pairing import AdversarialLogitPairing as AdversarialLogitPairing
from advlib.defenses.pairing import CleanLogitPairing as CleanLogitPairing
from advlib.defenses.pairing import LogitSqueezing as LogitSqueezing
from advlib.defenses.pairing import logit_pairing_loss as logit_pairing_loss
from advlib.defenses.pairing import logit_squeezing_loss as logit_squeezing_loss
from advlib.defenses.standard import LabelSmoothing as LabelSmoothing
from advlib.defenses.standard import Standard as Standard
from advlib.defenses.trades import TRADES as TRADES
from advlib.defenses.trades import trades_loss as trades_loss
from advlib.defenses.virtual import VirtualAdversarialTraining as VirtualAdversarialTraining
from advlib.losses import divergence as divergence

HISTORICAL = {
    "LabelSmoothing": "pgd with loss='margin' and restarts",
    "DefensiveDistillation": "pgd with loss='margin', or examples transferred from another model (1607.04311)",
    "CleanLogitPairing": "pgd with many steps and restarts (1810.12042)",
    "LogitSqueezing": "pgd with many steps and restarts (1810.12042)",
    "AdversarialTraining with fgsm": "pgd (1706.06083, section 5)",
}
