"""A small network and ways to train it in seconds, for the demo, the examples and the tests."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from advlib.checks import check_counts
from advlib.defenses import Objective, Standard
from advlib.defenses.base import Attack, check_attack
from advlib.evaluator import Model


def small_cnn(channels: int = 1, size: int = 28, classes: int = 10, *, seed: int = 0) -> nn.Sequential:
    """Makes an untrained network of two convolutions and two linear layers: 166,406 parameters on MNIST.

    The architecture is the one that Wong & Kolter (1711.00851) certified on MNIST.

    Args:
        channels: Channels of the images.
        size: Height and width of the images, a multiple of 4.
        classes: Classes.
        seed: Decides the weights. The global generators are neither used nor changed.

    Returns:
        A callable from ``(N, channels, size, size)`` images in [0, 1] to ``(N, classes)`` logits.

    Raises:
        ValueError: If ``size`` is not a positive multiple of 4.

    Example:
        >>> small_cnn()(torch.zeros(2, 1, 28, 28)).shape
        torch.Size([2, 10])
    """
    if size < 4 or size % 4:
        raise ValueError(f"size must be a positive multiple of 4, got {size}: pad the images")
    with torch.device("meta"):  # weights made there draw no random numbers
        model = nn.Sequential(
            nn.Conv2d(channels, 16, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(32 * (size // 4) ** 2, 100),
            nn.ReLU(),
            nn.Linear(100, classes),
        )
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.to_empty(device="cpu").parameters():
        if parameter.ndim > 1:
            nn.init.kaiming_uniform_(parameter, nonlinearity="relu", generator=generator)
        else:
            nn.init.zeros_(parameter)
    return model


@contextmanager
def one_thread() -> Iterator[None]:
    """Lets PyTorch use one CPU thread, and then as many as before.

    Layers as small as these gain little from a second one. Where other work keeps the cores busy, threads that
    wait for one another made training ten times slower.

    Example:
        >>> with one_thread():
        ...     logits = model(x)
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def growing(attack: partial[Tensor], calls: int) -> Attack:
    """The same attack with a radius that grows from 0, call by call, to that of its threat model.

    Training on the strongest perturbations from the first step can stop a small network from learning anything: on
    MNIST at 0.3 it then gives every image the same answer.

    Args:
        attack: A configured attack, ``partial(pgd, threat=Linf(0.3), steps=5, keep="last")``, whose step size is left
            to the radius.
        calls: Calls until the radius is the whole one.

    Raises:
        TypeError: If the attack lacks its threat model.

    Example:
        >>> objective = AdversarialTraining(growing(partial(pgd, threat=Linf(0.3), steps=5, keep="last"), calls=300))
    """
    check_attack(attack, needs_threat=True)
    check_counts(calls=calls)
    threat, count = attack.keywords["threat"], itertools.count(1)

    def grown(model: Model, x: Tensor, y: Tensor, **options: Any) -> Tensor:
        eps = threat.eps * min(1.0, next(count) / calls)
        return attack(model, x, y, **{**options, "threat": dataclasses.replace(threat, eps=eps)})

    return grown


def train(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    epochs: int = 10,
    batch_size: int = 64,
    max_lr: float = 5e-3,
    seed: int = 0,
    objective: Objective | None = None,
    progress: bool = False,
) -> nn.Module:
    """Trains a small classifier in place: Adam, and a one-cycle learning rate.

    It runs on one CPU thread, see :func:`one_thread`. On the 4,000 images of :func:`advlib.data.mnist`,
    :func:`small_cnn` then takes about 4 s to classify 96 % of the test images correctly.

    Args:
        model: Callable from ``(N, ...)`` inputs to ``(N, C)`` logits; it is left in evaluation mode.
        x: Inputs, ``(N, ...)``, on the model's device.
        y: ``(N,)`` labels.
        epochs: Passes over the data.
        batch_size: Inputs a step.
        max_lr: The learning rate at its highest (Smith & Topin, 1708.07120).
        seed: Decides the order of the data. The global generators are left alone, unless the model itself draws
            from them, or the objective does.
        objective: What to minimise, from :mod:`advlib.defenses`; None means the cross-entropy on clean images.
        progress: Whether to show a progress bar.

    Returns:
        The same model.

    Raises:
        ValueError: If there are no inputs, or not one label for each.

    Example:
        >>> model = train(small_cnn(), data.x_train, data.y_train)
    """
    if len(x) == 0 or y.shape != x.shape[:1]:
        raise ValueError(f"training needs inputs and one label for each, got {len(x)} inputs and y {tuple(y.shape)}")
    objective = objective or Standard()
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=max_lr)
    steps = epochs * math.ceil(len(x) / batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr, total_steps=steps)
    model.train()
    with one_thread(), tqdm(total=steps, desc="training", unit="step", disable=not progress) as bar:
        for _ in range(epochs):
            order = torch.randperm(len(x), generator=generator).to(x.device)
            for index in torch.split(order, batch_size):
                loss = objective(model, x[index], y[index]).loss
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                schedule.step()
                bar.update()
    return model.eval()
