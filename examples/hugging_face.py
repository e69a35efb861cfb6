"""A Hugging Face image classifier under attack: randomly initialised from a configuration, so nothing is downloaded.

Needs transformers, and runs in seconds: python examples/hugging_face.py
"""

import torch
from transformers import ViTConfig, ViTForImageClassification

import advlib
from advlib import Linf
from advlib.models import Logits, Normalize

torch.manual_seed(0)
config = ViTConfig(
    hidden_size=48,
    num_hidden_layers=2,
    num_attention_heads=3,
    intermediate_size=96,
    image_size=32,
    patch_size=8,
    num_labels=10,
)
vit = ViTForImageClassification(config).eval()

# What the processor does to an image belongs inside the model, and what it returns is an object that has logits.
model = Normalize(Logits(vit), mean=[0.5, 0.5, 0.5], std=[0.5, 0.5, 0.5])

x = torch.rand(40, 3, 32, 32)
y = model(x).argmax(1)  # an untrained network knows no better classes

x_adv = advlib.pgd(model, x, y, Linf(8 / 255), steps=10)
print(f"PGD leaves {(model(x_adv).argmax(1) == y).float().mean():.0%}")

result = advlib.evaluate(model, x, y, Linf(8 / 255), budget="quick", progress=False)
print(f"{result.clean_accuracy:.0%} clean, {result.robust_accuracy:.0%} robust, {result.verdict}")
