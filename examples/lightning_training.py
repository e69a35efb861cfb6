"""Adversarial training in Lightning: an objective is the loss of training_step, and nothing else changes.

Needs lightning and scikit-learn, whose digits it learns in seconds: python examples/lightning_training.py
"""

from functools import partial

import lightning
import torch
from torch.utils.data import DataLoader, TensorDataset

import advlib
from advlib import Linf, pgd
from advlib.data import digits
from advlib.defenses import AdversarialTraining
from advlib.zoo import small_cnn


class Robust(lightning.LightningModule):
    """A network trained on what the attack finds."""

    def __init__(self):
        super().__init__()
        self.network = small_cnn(size=8)
        attack = partial(pgd, threat=Linf(0.1), steps=5, step_size=0.04, keep="last")
        self.objective = AdversarialTraining(attack)

    def forward(self, x):
        return self.network(x)

    def training_step(self, batch, index):
        output = self.objective(self.network, *batch)
        self.log("loss", output.loss)
        return output.loss

    def validation_step(self, batch, index):
        x, y = batch
        x_adv = pgd(self.network, x, y, Linf(0.1), steps=10)  # works under the no_grad that Lightning validates in
        self.log("robust accuracy", (self.network(x_adv).argmax(1) == y).float().mean())

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=2e-3)


lightning.seed_everything(0, verbose=False)
data = digits()
train = DataLoader(TensorDataset(data.x_train, data.y_train), batch_size=64, shuffle=True)
valid = DataLoader(TensorDataset(data.x_test, data.y_test), batch_size=200)

robust = Robust()
trainer = lightning.Trainer(
    max_epochs=5,
    accelerator="cpu",
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
)
trainer.fit(robust, train, valid)

result = advlib.evaluate(robust.eval(), data.x_test, data.y_test, Linf(0.1), budget="quick", progress=False)
print(f"{result.clean_accuracy:.0%} clean, {result.robust_accuracy:.0%} robust, {result.verdict}")
