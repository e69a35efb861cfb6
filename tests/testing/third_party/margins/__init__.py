"""A classifier by the nearest prototype, and an attack on it: what a small library might hold."""

from contextlib import contextmanager

import torch
from torch import nn
from torch.nn import functional


class NearestPrototype(nn.Module):
    """Logits are minus squared distances, so the boundaries are hyperplanes, as far away as one can compute."""

    def __init__(self, prototypes):
        super().__init__()
        self.register_buffer("prototypes", prototypes)

    def forward(self, x):
        return -(x.flatten(1).unsqueeze(1) - self.prototypes).square().sum(2)


class Rounded(NearestPrototype):
    """The same on eight grey levels, which its author believes to be a defence."""

    def forward(self, x):
        return super().forward((x * 7).round() / 7)


@contextmanager
def in_evaluation(model):
    flags = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, flag in flags.items():
            module.training = flag


def climb(model, x, y, eps, steps=10):
    """Climbs the cross-entropy by signs, within eps and [0, 1]."""
    with in_evaluation(model), torch.inference_mode(False), torch.enable_grad():
        x, y = x.detach().clone(), y.clone()
        x_adv = x.clone()
        for _ in range(steps):
            x_adv.requires_grad_()
            loss = functional.cross_entropy(model(x_adv), y, reduction="sum")
            gradient = torch.autograd.grad(loss, x_adv, allow_unused=True)[0] if loss.requires_grad else None
            step = torch.zeros_like(x) if gradient is None else gradient.nan_to_num(0).sign()
            x_adv = x_adv.detach() + 2 * eps / steps * step
            x_adv = torch.minimum(torch.maximum(x_adv, x - eps), x + eps).clamp(0, 1)
        return x_adv


def careless_climb(model, x, y, eps, steps=10):
    """The first version: backward() into the weights, a mean over the batch, and the model left as it was found."""
    model.eval()
    x_adv = x
    for _ in range(steps):
        x_adv = x_adv.detach().requires_grad_()
        functional.cross_entropy(model(x_adv), y).backward()
        x_adv = (x_adv + 2 * eps / steps * x_adv.grad.sign()).clamp(0, 1)
    return x_adv
