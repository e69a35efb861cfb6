"""What the laws say of other libraries' attacks, in the versions of benchmarks/peers.txt.

Each keeps all laws but those named here. A law that a newer version mends makes its test fail, and is struck out.
"""

import re

import numpy as np
import pytest
import torch
from torch import nn

from advlib import L1, L2, Linf
from advlib.testing import assert_attack_valid

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]


def torchattacks(name, **settings):
    library = pytest.importorskip("torchattacks")

    def attack(model, x, y, threat):
        return getattr(library, name)(model, eps=threat.eps, **settings)(x, y)

    return attack


def foolbox(name, **settings):
    library = pytest.importorskip("foolbox")

    def attack(model, x, y, threat):
        wrapped = library.PyTorchModel(model, bounds=(0, 1), device=x.device)
        return getattr(library.attacks, name)(**settings)(wrapped, x, y, epsilons=threat.eps)[1]

    return attack


def cleverhans(**settings):
    module = pytest.importorskip("cleverhans.torch.attacks.projected_gradient_descent")

    def attack(model, x, y, threat):
        function = module.projected_gradient_descent
        return function(model, x, threat.eps, 0.02, 10, np.inf, clip_min=0, clip_max=1, y=y, rand_init=False)

    return attack


def art(name, **settings):
    evasion = pytest.importorskip("art.attacks.evasion")
    from art.estimators.classification import PyTorchClassifier

    def attack(model, x, y, threat):
        classifier = PyTorchClassifier(
            model, nn.CrossEntropyLoss(), tuple(x.shape[1:]), 5, clip_values=(0.0, 1.0), device_type="cpu"
        )
        return torch.from_numpy(getattr(evasion, name)(classifier, eps=threat.eps, **settings).generate(x.numpy(), y))

    return attack


GRADIENTS_OFF = {"no_grad", "inference_mode", "no gradient"}  # they raise where autograd has nothing to give
FLAGS = {"untouched", "exception"}  # frozen layers come back in training, or statistics move, or weights get gradients
CASES = {
    "torchattacks FGSM": (torchattacks, ("FGSM",), {}, Linf(0.1), GRADIENTS_OFF | FLAGS),
    "torchattacks PGD": (
        torchattacks,
        ("PGD",),
        {"alpha": 0.02, "steps": 10, "random_start": False},
        Linf(0.1),
        GRADIENTS_OFF | FLAGS,
    ),
    "torchattacks MIFGSM": (torchattacks, ("MIFGSM",), {"alpha": 0.02}, Linf(0.1), GRADIENTS_OFF | FLAGS),
    "torchattacks PGDL2": (
        torchattacks,
        ("PGDL2",),
        {"alpha": 0.1, "steps": 20},
        L2(0.5),
        GRADIENTS_OFF | FLAGS | {"NaN gradient", "empty batch", "layout"},
    ),
    "torchattacks APGD": (
        torchattacks,
        ("APGD",),
        {"steps": 20},
        Linf(0.1),
        {"like x", "alone", "random state", "inference_mode", "optimum", "no gradient"} | FLAGS,
    ),
    "Foolbox LinfPGD": (
        foolbox,
        ("LinfPGD",),
        {"steps": 20, "abs_stepsize": 0.02},
        Linf(0.1),
        GRADIENTS_OFF | FLAGS | {"empty batch"},
    ),
    "Foolbox L2PGD": (
        foolbox,
        ("L2PGD",),
        {"steps": 20},
        L2(0.5),
        GRADIENTS_OFF | FLAGS | {"optimum", "NaN gradient", "empty batch"},
    ),
    "Foolbox L1PGD": (
        foolbox,
        ("L1PGD",),
        {"steps": 20},
        L1(2.0),
        GRADIENTS_OFF | FLAGS | {"optimum", "NaN gradient", "empty batch"},
    ),
    "CleverHans PGD": (cleverhans, (), {}, Linf(0.1), GRADIENTS_OFF | FLAGS | {"like x"}),
    "ART FGSM": (art, ("FastGradientMethod",), {}, Linf(0.1), GRADIENTS_OFF | FLAGS),
    "ART PGD": (
        art,
        ("ProjectedGradientDescent",),
        {"eps_step": 0.02, "max_iter": 10, "verbose": False},
        Linf(0.1),
        GRADIENTS_OFF | FLAGS | {"random state", "empty batch"},
    ),
}
SINGLE = ("CleverHans", "ART", "torchattacks APGD")  # they know float32 alone


@pytest.mark.parametrize("case", CASES)
def test_a_peer_keeps_all_laws_but_these(case):
    make, names, settings, threat, broken = CASES[case]
    attack, dtype = make(*names, **settings), torch.float32 if case.startswith(SINGLE) else torch.float64
    assert_attack_valid(attack, threat, dtype=dtype, skip=broken)
    with pytest.raises(AssertionError) as caught:
        assert_attack_valid(attack, threat, dtype=dtype)
    found = {
        name for line in re.findall(r"^- ([\w ,]+): ", str(caught.value), re.MULTILINE) for name in line.split(", ")
    }
    assert found == broken
