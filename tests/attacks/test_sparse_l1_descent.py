"""Sparse L1 descent by hand, on a linear model. Its steps are those of PGD, and tested there."""

import by_hand
import pytest
import torch
from by_hand import Y, classifier, points

from advlib import L1, L2, pgd, sparse_l1_descent

MODEL = classifier([[4.0, -3.0, 2.0, 1.0]], [-9.0])
X = points([0.2, 0.5, 0.5, 0.5])


def asked(threat, **settings):
    """The points that the model is asked about."""
    return by_hand.asked(sparse_l1_descent, MODEL, X, threat, loss="margin", **settings)[0]


def test_a_step_moves_the_share_of_features_that_have_room():
    """Two of four, in proportion to their gradients; the first is at its upper bound after the first step."""
    seen = asked(L1(3.0), steps=2, step_size=1.4, sparsity=0.5)
    assert seen[1] == pytest.approx([1.0, 0.0, 0.5, 0.5])
    assert seen[2] == pytest.approx([1.0, 0.0, 1.0, 0.5 + 1.4 / 3])


def test_one_feature_at_least():
    assert asked(L1(3.0), steps=1, step_size=0.3)[1] == pytest.approx([0.5, 0.5, 0.5, 0.5])


def test_defaults():
    """A hundredth of the features, from x; the threat model's own share counts for nothing."""
    model = classifier([[(-1) ** i * (1 + i) / 400 for i in range(400)]], [-2.0])
    x, y, threat = torch.full((1, 400), 0.5).double(), Y, L1(3.0)
    given = {"steps": 20, "step_size": None, "random_start": False, "loss": "cross_entropy"}
    one = sparse_l1_descent(model, x, y, L1(3.0, sparsity=0.5))
    assert torch.equal(one, pgd(model, x, y, threat, **given))
    first = {"steps": 1, "step_size": 0.2, "keep": "last"}
    assert (sparse_l1_descent(model, x, y, threat, **first) != x).sum() == 4
    assert (sparse_l1_descent(model, x, y, threat, random_start=True, **first) != x).sum() > 100


def test_what_it_does_not_take():
    with pytest.raises(ValueError, match="needs an L1 ball, got L2: take pgd"):
        sparse_l1_descent(MODEL, X, Y, L2(1.0))
    with pytest.raises(ValueError, match="sparsity must be a share"):
        sparse_l1_descent(MODEL, X, Y, L1(1.0), sparsity=2.0)


def test_the_loss_is_the_one_given():
    def backwards(output, y, target=None):
        return -output[:, 1]

    settings = {"steps": 1, "step_size": 0.1}
    seen = by_hand.asked(sparse_l1_descent, MODEL, X, L1(3.0), loss=backwards, **settings)[0]
    assert seen[1] == pytest.approx([0.1, 0.5, 0.5, 0.5])
