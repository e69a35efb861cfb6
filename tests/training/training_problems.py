"""What the trainer's tests train: tiny networks on tiny images."""

import itertools
import random
from functools import partial

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from advlib import Linf, pgd
from advlib.data import digits
from advlib.defenses import AdversarialTraining, FreeAdversarialTraining
from advlib.training import Trainer

DATA = digits()
QUICK = partial(pgd, threat=Linf(0.1), steps=2, keep="last")


def loader(rows=slice(0, 160), batch_size=32, shuffle=True, **options):
    dataset = TensorDataset(DATA.x_train[rows], DATA.y_train[rows])
    return DataLoader(dataset, batch_size, shuffle=shuffle, **options)


def held_out(batch_size=100):
    return loader(slice(1400, 1500), batch_size, shuffle=False)


def network(dropout=0.0, norm=True, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = [nn.Flatten(), nn.Linear(64, 24)]
        layers += [nn.BatchNorm1d(24)] if norm else []
        return nn.Sequential(*layers, nn.ReLU(), nn.Dropout(dropout), nn.Linear(24, 10))


def trainer(model, objective=None, lr=0.05, steps=None, **options):
    optimizer = torch.optim.SGD(model.parameters(), lr, momentum=0.9)
    scheduler = None if steps is None else torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.2, total_steps=steps)
    objective = AdversarialTraining(QUICK) if objective is None else objective
    return Trainer(model, optimizer, objective, scheduler=scheduler, **options)


def same(state, other):
    return list(state) == list(other) and all(torch.equal(state[name], other[name]) for name in state)


class Jittered(TensorDataset):
    """Images moved by chance: Python's, numpy's and PyTorch's, all global."""

    def __getitem__(self, index):
        x, y = super().__getitem__(index)
        shift = 0.1 * random.random() + 0.1 * np.random.rand() + 0.1 * torch.rand(())
        return (x * (1 - shift)).float(), y


def whole_run(path, resume, *, free=False, epochs=4, generator=False, workers=0, every=3, at_step=None, metrics=None):
    """A run in which everything that a checkpoint must keep plays a part.

    ``at_step``: called after each optimizer step with the steps of this process, to interrupt.
    """
    torch.manual_seed(3)
    random.seed(4)
    np.random.seed(5)
    streams = [torch.Generator().manual_seed(seed) for seed in (6, 7)] if generator else [None, None]
    data = Jittered(DATA.x_train[:160], DATA.y_train[:160])
    batches = DataLoader(data, 32, shuffle=True, generator=streams[0], num_workers=workers)
    model = network(dropout=0.3)
    inner = partial(QUICK, generator=streams[1])
    objective = FreeAdversarialTraining(Linf(0.1), replays=2) if free else AdversarialTraining(inner)
    options = {"averaging": 0.9, "attack": QUICK, "collapse_guard": QUICK, "metrics": metrics}
    made = trainer(model, objective, steps=epochs * 5 * (2 if free else 1), **options)
    if at_step is not None:
        steps = itertools.count(1)
        made.optimizer.register_step_post_hook(lambda *_: at_step(next(steps)))
    settings = {"validation": held_out(), "checkpoint": path, "every": every, "resume": resume, "progress": False}
    return model, made.fit(batches, epochs=epochs, **settings)


def without_times(history):
    return [{name: row[name] for name in row if name not in ("seconds", "images_per_second")} for row in history]
