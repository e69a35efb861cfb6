"""What the trainer's tests train: tiny networks on tiny images."""

from functools import partial

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


def whole_run(path, resume, free=False, epochs=4):
    """A run in which everything that a checkpoint must keep plays a part; the caller has seeded nothing."""
    torch.manual_seed(3)
    model = network(dropout=0.3)
    objective = FreeAdversarialTraining(Linf(0.1), replays=2) if free else None
    options = {"averaging": 0.9, "attack": QUICK, "collapse_guard": QUICK}
    made = trainer(model, objective, steps=epochs * 5 * (2 if free else 1), **options)
    result = made.fit(
        loader(), epochs=epochs, validation=held_out(), checkpoint=path, every=3, resume=resume, progress=False
    )
    return model, result
