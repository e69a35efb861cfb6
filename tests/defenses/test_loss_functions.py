"""The pure losses: by hand, against an independent formula, with soft labels, and where their gradients go."""

import math

import pytest
import torch

from advlib.defenses import (
    distillation_loss,
    divergence,
    logit_pairing_loss,
    logit_squeezing_loss,
    mart_loss,
    mixed_loss,
    trades_loss,
)

LOG2, LOG3 = math.log(2), math.log(3)
EVEN = torch.zeros(1, 2, dtype=torch.float64)  # probabilities 1/2 and 1/2
LEFT = torch.tensor([[LOG3, 0.0]], dtype=torch.float64)  # 3/4 and 1/4
RIGHT = torch.tensor([[0.0, LOG3]], dtype=torch.float64)  # 1/4 and 3/4
FIRST = torch.tensor([0])


def random_logits(seed, rows=5, classes=4):
    return torch.randn(rows, classes, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) * 2


Y = torch.tensor([0, 3, 1, 1, 2])
SOFT = random_logits(9).softmax(1)


def probabilities(logits):
    """Softmax by its definition, as nested lists of floats."""
    rows = []
    for row in logits.tolist():
        powers = [math.exp(value) for value in row]
        rows.append([power / sum(powers) for power in powers])
    return rows


def entropy(logits, y):
    """Mean cross-entropy in plain floats, against labels or probabilities."""
    total = 0.0
    for i, row in enumerate(probabilities(logits)):
        wanted = y[i].tolist() if y.ndim == 2 else [float(c == int(y[i])) for c in range(len(row))]
        total -= sum(w * math.log(p) for w, p in zip(wanted, row, strict=True))
    return total / len(logits)


def relative_entropy(logits, logits_adv):
    """KL(clean || adversarial) of each row in plain floats."""
    pairs = zip(probabilities(logits), probabilities(logits_adv), strict=True)
    return [sum(p * math.log(p / q) for p, q in zip(clean, adv, strict=True)) for clean, adv in pairs]


def close(value, expected):
    assert float(value) == pytest.approx(expected, rel=1e-12, abs=1e-13)


def test_divergence():
    close(divergence(EVEN, LEFT), 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25))
    close(divergence(LEFT, EVEN), 0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    clean, adv = random_logits(0), random_logits(1)
    assert divergence(clean, adv).shape == (5,)
    assert divergence(clean, adv).tolist() == pytest.approx(relative_entropy(clean, adv), rel=1e-12)
    assert torch.equal(divergence(clean, clean), torch.zeros(5, dtype=torch.float64))
    assert divergence(1e4 * EVEN, 1e4 * LEFT).isfinite().all()


def test_mixed_loss():
    close(mixed_loss(EVEN, LEFT, FIRST, adversarial_weight=0.25), 0.75 * LOG2 + 0.25 * math.log(4 / 3))
    close(mixed_loss(None, RIGHT, FIRST, adversarial_weight=1.0), 2 * LOG2)
    clean, adv = random_logits(0), random_logits(1)
    for y in (Y, SOFT):
        close(mixed_loss(clean, adv, y, adversarial_weight=0.3), 0.7 * entropy(clean, y) + 0.3 * entropy(adv, y))
        close(mixed_loss(None, adv, y, adversarial_weight=1.0), entropy(adv, y))


def test_trades_loss():
    kl = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    close(trades_loss(LEFT, EVEN, FIRST, beta=6.0), math.log(4 / 3) + 6 * kl)
    clean, adv = random_logits(0), random_logits(1)
    for y in (Y, SOFT):
        expected = entropy(clean, y) + 6 * sum(relative_entropy(clean, adv)) / 5
        close(trades_loss(clean, adv, y, beta=6.0), expected)
        close(trades_loss(clean, adv, y, beta=0.0), entropy(clean, y))


def test_mart_loss():
    kl = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    boosted = LOG2 - math.log(1.0001 - 0.5)
    close(mart_loss(LEFT, EVEN, FIRST, beta=5.0), boosted + 5 * kl * 0.25)
    clean, adv = random_logits(0), random_logits(1)
    for y in (Y, SOFT):
        expected = entropy(adv, y)
        label = [int(row.argmax()) for row in y] if y.ndim == 2 else y.tolist()
        rows = zip(probabilities(clean), probabilities(adv), relative_entropy(clean, adv), label, strict=True)
        for p, q, row_kl, true in rows:
            rival = max(value for c, value in enumerate(q) if c != true)
            expected += (-math.log(1 + 1e-4 - rival) + 5 * row_kl * (1 - p[true])) / 5
        close(mart_loss(clean, adv, y, beta=5.0), expected)


def test_mart_loss_is_finite_where_the_answer_is_surely_wrong():
    adv = torch.tensor([[-200.0, 200.0]], requires_grad=True)
    loss = mart_loss(torch.zeros(1, 2), adv, FIRST, beta=5.0)
    loss.backward()
    assert loss.isfinite()
    assert adv.grad.isfinite().all()


def test_logit_pairing_loss():
    a, b = torch.tensor([[1.0, 2.0], [0.0, 4.0]]), torch.tensor([[0.0, 2.0], [2.0, 1.0]])
    close(logit_pairing_loss(a, b), (1 + 0 + 4 + 9) / 4)
    close(logit_pairing_loss(a, a), 0.0)
    with pytest.raises(ValueError, match=r"paired row by row, got \(2, 2\) and \(1, 2\)"):
        logit_pairing_loss(a, b[:1])


def test_logit_squeezing_loss():
    close(logit_squeezing_loss(torch.tensor([[1.0, -2.0], [0.0, 4.0]])), (1 + 4 + 0 + 16) / 4)


def test_distillation_loss():
    close(distillation_loss(EVEN, LEFT, temperature=1.0), LOG2)
    close(distillation_loss(LEFT, EVEN, temperature=1.0), -0.5 * math.log(0.75 * 0.25))
    student, teacher = random_logits(0), random_logits(1)
    for temperature in (0.5, 1.0, 20.0):
        target = torch.tensor(probabilities(teacher / temperature), dtype=torch.float64)
        close(distillation_loss(student, teacher, temperature=temperature), entropy(student / temperature, target))


def test_distillation_loss_is_least_at_the_teacher_and_gives_it_no_gradient():
    teacher = random_logits(1).requires_grad_()
    student = teacher.detach().clone().requires_grad_()
    distillation_loss(student, teacher, temperature=10.0).backward()
    assert student.grad.abs().max() < 1e-15
    assert teacher.grad is None
    distillation_loss(student + random_logits(2), teacher, temperature=10.0).backward()
    assert student.grad.abs().max() > 1e-4
    assert teacher.grad is None


@pytest.mark.parametrize(
    "loss",
    [
        lambda clean, adv: trades_loss(clean, adv, Y, beta=6.0),
        lambda clean, adv: mart_loss(clean, adv, Y, beta=5.0),
        lambda clean, adv: mixed_loss(clean, adv, Y, adversarial_weight=0.5),
        lambda clean, adv: divergence(clean, adv).mean(),
        logit_pairing_loss,
    ],
    ids=["trades", "mart", "mixed", "divergence", "pairing"],
)
def test_gradients_flow_into_both_logits(loss):
    clean, adv = random_logits(0).requires_grad_(), random_logits(1).requires_grad_()
    assert torch.autograd.gradcheck(loss, (clean, adv))
    loss(clean, adv).backward()
    assert (clean.grad.abs().amax(1) > 0).all()
    assert (adv.grad.abs().amax(1) > 0).all()


def test_trades_moves_the_clean_answer_too():
    """The divergence is differentiated in its first argument: without that, the gradient is cross-entropy's alone."""
    clean, adv = random_logits(0).requires_grad_(), random_logits(1)
    trades_loss(clean, adv, Y, beta=6.0).backward()
    through, clean.grad = clean.grad, None
    trades_loss(clean, adv, Y, beta=0.0).backward()
    assert (through - clean.grad).abs().max() > 0.1
