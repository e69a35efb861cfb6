"""Attacks: how the adversary searches. One file each; this is the list of what exists."""

from advlib.attacks.apgd import apgd as apgd
from advlib.attacks.auto_attack import auto_attack as auto_attack
from advlib.attacks.baselines import gaussian_noise as gaussian_noise
from advlib.attacks.baselines import salt_and_pepper as salt_and_pepper
from advlib.attacks.baselines import uniform_noise as uniform_noise
from advlib.attacks.bim import bim as bim
from advlib.attacks.ddn import ddn as ddn
from advlib.attacks.deepfool import deepfool as deepfool
from advlib.attacks.ead import ead as ead
from advlib.attacks.fab import fab as fab
from advlib.attacks.fgsm import fgsm as fgsm
from advlib.attacks.fmn import fmn as fmn
from advlib.attacks.jsma import jsma as jsma
from advlib.attacks.mim import mim as mim
from advlib.attacks.pgd import pgd as pgd
from advlib.attacks.sigma_zero import sigma_zero as sigma_zero
from advlib.attacks.square import square as square
