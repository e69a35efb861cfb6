"""What the same assertions say of what is wrong in it: these fail. Not collected by name."""

import margins
import torch

from advlib import Linf
from advlib.testing import assert_attack_valid, assert_gradients_reach_input, assert_robust

PROTOTYPES = torch.tensor([[0.1], [0.9]]).expand(-1, 16)
Y = torch.arange(60) % 2
X = PROTOTYPES[Y] + 0.05


def test_too_far_a_promise():
    assert_robust(margins.NearestPrototype(PROTOTYPES), X, Y, Linf(0.45), at_least=0.9)


def test_a_defence_that_hides_its_gradient():
    assert_robust(margins.Rounded(PROTOTYPES), X, Y, Linf(0.1), at_least=0.9)


def test_its_gradients():
    assert_gradients_reach_input(margins.Rounded(PROTOTYPES), X, Y)


def test_the_careless_attack():
    assert_attack_valid(lambda model, x, y, threat: margins.careless_climb(model, x, y, threat.eps), Linf(0.1))
