"""Adversarial robustness for PyTorch: how robust is a model, really, and how is it made more so?"""

from advlib.attacks import apgd as apgd
from advlib.attacks import auto_attack as auto_attack
from advlib.attacks import bim as bim
from advlib.attacks import ddn as ddn
from advlib.attacks import deepfool as deepfool
from advlib.attacks import ead as ead
from advlib.attacks import fab as fab
from advlib.attacks import fgsm as fgsm
from advlib.attacks import fmn as fmn
from advlib.attacks import gaussian_noise as gaussian_noise
from advlib.attacks import jsma as jsma
from advlib.attacks import mim as mim
from advlib.attacks import pgd as pgd
from advlib.attacks import salt_and_pepper as salt_and_pepper
from advlib.attacks import sigma_zero as sigma_zero
from advlib.attacks import square as square
from advlib.attacks import uniform_noise as uniform_noise
from advlib.evaluation import evaluate as evaluate
from advlib.search import GradientMaskingWarning as GradientMaskingWarning
from advlib.threats import L0 as L0
from advlib.threats import L1 as L1
from advlib.threats import L2 as L2
from advlib.threats import Linf as Linf
from advlib.version import __version__ as __version__
