"""A timm network under attack, with the normalization that timm says it wants; not pretrained, so nothing is downloaded.

Needs timm, and runs in seconds: python examples/timm_model.py
"""

import timm
import torch

import advlib
from advlib import Linf
from advlib.models import Normalize

torch.manual_seed(0)
network = timm.create_model("resnet10t", pretrained=False, num_classes=10, zero_init_last=False).eval()
wants = timm.data.resolve_data_config({}, model=network)
model = Normalize(network, wants["mean"], wants["std"])

x = torch.rand(16, 3, 32, 32)
y = model(x).argmax(1)  # an untrained network knows no better classes

x_adv = advlib.apgd(model, x, y, Linf(8 / 255), steps=10)
print(f"APGD leaves {(model(x_adv).argmax(1) == y).float().mean():.0%}")

result = advlib.evaluate(model, x, y, Linf(8 / 255), budget="quick", progress=False)
print(f"{result.clean_accuracy:.0%} clean, {result.robust_accuracy:.0%} robust, {result.verdict}")
