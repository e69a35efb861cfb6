"""Attacks: how the adversary searches. One file each; this is the list of what exists."""

from advlib.attacks.fgsm import fgsm as fgsm
from advlib.attacks.pgd import pgd as pgd
