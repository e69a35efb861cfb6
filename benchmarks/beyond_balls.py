"""Rotations, translations and patches: robust accuracy, passes and time beside Foolbox and ART.

Every image counts, also those that the network gets wrong without any attack. A pass is one image through the network,
there or back. Foolbox and ART search the same grid of angles and whole shifts as advlib; ART takes the one
transformation that fools most of a batch. Its patches want torchvision, and are left out without it.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from collections.abc import Callable

import common
import torch
from torch import Tensor, nn

from advlib import Patch, Spatial, patch, spatial, universal_patch
from advlib.models import Counted

Attack = Callable[[nn.Module, Tensor, Tensor], Tensor]
CASES = {
    "mnist_convsmall_eran": ("mnist", Spatial(10, 1), Patch(5)),
    "cifar10_resnet2b": ("cifar10", Spatial(5, 1), Patch(4)),
}
COUNTS = (5, 3, 3)  # angles, shifts down, shifts across


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def measured(name: str, attack: Attack, model: nn.Module, x: Tensor, y: Tensor) -> dict[str, object]:
    """One row of a table."""
    torch.manual_seed(0)
    counted = Counted(model).eval()
    start = time.process_time()
    x_adv = attack(counted, x, y)
    seconds = time.process_time() - start
    with torch.no_grad():
        right = (model(x_adv).argmax(1) == y).float().mean().item()
    passes = (counted.forwards + counted.backwards) / len(x)
    row = {"attack": name, "robust accuracy": 100 * right, "passes an image": passes, "CPU seconds": seconds}
    print(row, flush=True)
    return row


# -- rotations and translations ---------------------------------------------------------------------------------------


def foolbox_spatial(threat: Spatial, **settings: object) -> Attack:
    import foolbox

    def attack(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        wrapped = foolbox.PyTorchModel(model.eval(), bounds=(0, 1))
        found = foolbox.attacks.SpatialAttack(threat.translation, threat.rotation, **settings)
        return found(wrapped, x, y)[0]

    return attack


def art_spatial(threat: Spatial) -> Attack:
    from art.attacks.evasion import SpatialTransformation

    def attack(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        found = SpatialTransformation(
            classifier(model, x), 100 * threat.translation / x.shape[2], COUNTS[1], threat.rotation, COUNTS[0], False
        )
        return torch.from_numpy(found.generate(x.numpy(), y.numpy()))

    return attack


def classifier(model: nn.Module, x: Tensor):
    from art.estimators.classification import PyTorchClassifier

    loss, shape = nn.CrossEntropyLoss(), tuple(x.shape[1:])
    return PyTorchClassifier(model, loss, shape, 10, clip_values=(0.0, 1.0), device_type="cpu")


def spatial_contestants(threat: Spatial) -> dict[str, Attack]:
    def ours(**settings: object) -> Attack:
        return lambda model, x, y: spatial(model, x, y, threat, generator=generator(), **settings)

    return {
        "clean": lambda model, x, y: x,
        f"advlib, grid {COUNTS}": ours(counts=COUNTS),
        f"advlib, grid {COUNTS}, every point": ours(counts=COUNTS, keep="strongest"),
        f"Foolbox, grid {COUNTS}": foolbox_spatial(threat, num_translations=COUNTS[1], num_rotations=COUNTS[0]),
        f"ART, grid {COUNTS}": art_spatial(threat),
        "advlib, grid (31, 5, 5)": ours(),
        "advlib, 44 random": ours(method="random", steps=44),
        "Foolbox, 44 random": foolbox_spatial(threat, grid_search=False, random_steps=44),
        "advlib, 774 random": ours(method="random", steps=774),
        "advlib, gradient 2 x 11": ours(method="gradient", steps=10, restarts=2),
        "advlib, gradient 10 x 11": ours(method="gradient", steps=10, restarts=10),
    }


# -- patches ----------------------------------------------------------------------------------------------------------


def art_patch(model: nn.Module, x: Tensor, threat: Patch, steps: int, batch_size: int, step_size: float):
    from art.attacks.evasion import AdversarialPatchPyTorch

    share = threat.sides[0] / x.shape[2]
    return AdversarialPatchPyTorch(
        classifier(model, x),
        rotation_max=0.0,
        scale_min=share,
        scale_max=share,
        learning_rate=step_size,
        max_iter=steps,
        batch_size=batch_size,
        patch_shape=(x.shape[1], *threat.sides),
        patch_location=threat.location and threat.location[::-1],
        patch_type="square",
        optimizer="pgd",
        targeted=False,
        verbose=False,
    )


def art_patches(threat: Patch, steps: int, step_size: float) -> Attack:
    """A patch for each image, trained on it alone, and put on it as ART does."""

    def attack(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        painted = []
        for one, label in zip(x.split(1), y.split(1), strict=True):
            found = art_patch(model, one, threat, steps, 1, step_size)
            found.generate(one.numpy(), label.numpy())
            painted.append(torch.from_numpy(found.apply_patch(one.numpy(), scale=threat.sides[0] / x.shape[2])))
        return torch.cat(painted)

    return attack


def patch_contestants(size: int, art: bool) -> dict[str, Attack]:
    given = Patch(size, location=(3, 3))

    def ours(threat: Patch, **settings: object) -> Attack:
        return lambda model, x, y: patch(model, x, y, threat, generator=generator(), **settings)

    found = {"advlib, given place, 40 steps": ours(given, steps=40, restarts=1)}
    if art:
        found |= {f"ART, given place, 40 steps of {size}": art_patches(given, 40, size) for size in (0.2,)}
    for restarts, steps in ((1, 20), (5, 20), (10, 20)):
        for places in ("ranked", "random"):
            settings = {"steps": steps, "restarts": restarts, "places": places}
            found[f"advlib, {restarts} {places} places, {steps} steps"] = ours(Patch(size), **settings)
    return found


def universal(
    name: str, train: Callable[[nn.Module], Tensor], model: nn.Module, threat: Patch, x: Tensor, y: Tensor
) -> dict[str, object]:
    """Robust accuracy on other images than those of the training, at random places; a mean of three draws."""
    counted = Counted(model).eval()
    torch.manual_seed(0)
    start = time.process_time()
    one = train(counted)
    seconds = time.process_time() - start
    with torch.no_grad():
        painted = [threat.apply(x, one, threat.placements(x, generator(seed))) for seed in range(3)]
        right = sum((model(z).argmax(1) == y).float().mean().item() for z in painted) / 3
    passes = counted.forwards + counted.backwards
    row = {"patch": name, "robust accuracy": 100 * right, "passes": passes, "CPU seconds": seconds}
    print(row, flush=True)
    return row


def universal_contestants(
    threat: Patch, x: Tensor, y: Tensor, steps: int, batch: int, art: bool
) -> dict[str, Callable[[nn.Module], Tensor]]:
    gray = torch.full((x.shape[1], *threat.sides), 0.5)
    loader = list(zip(x.split(batch), y.split(batch), strict=True))
    found = {
        "gray": lambda model: gray,
        "advlib": lambda model: universal_patch(model, loader, threat, steps=steps, generator=generator()),
    }

    def theirs(step_size: float) -> Callable[[nn.Module], Tensor]:
        def train(model: nn.Module) -> Tensor:
            attack = art_patch(model, x, threat, steps // len(loader), batch, step_size)
            return torch.from_numpy(attack.generate(x.numpy(), y.numpy())[0]).float()

        return train

    if art:
        found |= {f"ART, steps of {step_size}": theirs(step_size) for step_size in (0.05, 0.2)}
    return found


def run(given: argparse.Namespace, name: str, art: bool) -> dict[str, list[dict[str, object]]]:
    data, threat, painted = CASES[name]
    model = common.load(given.zoo, name)
    x, y = common.test_images(given.data, data, given.images + 2 * given.training)
    train, test = slice(given.images, given.images + given.training), slice(given.images + given.training, None)
    x, y, training, held_out = x[: given.images], y[: given.images], (x[train], y[train]), (x[test], y[test])
    tables = {
        "spatial": [measured(key, each, model, x, y) for key, each in spatial_contestants(threat).items()],
        "patches": [measured(key, each, model, x, y) for key, each in patch_contestants(painted.sides[0], art).items()],
        "universal patch": [
            universal(key, each, model, painted, *held_out)
            for key, each in universal_contestants(painted, *training, given.steps, 50, art).items()
        ],
    }
    for title, rows in tables.items():
        common.table(f"{name}, {threat if title == 'spatial' else painted}: {title}", rows)
    return tables


def main() -> None:
    options = common.parser(__doc__.splitlines()[0], "beyond_balls.json")
    common.add_networks(options, required=True)
    options.add_argument("--images", type=int, default=50, help="test images attacked one by one")
    options.add_argument(
        "--training", type=int, default=200, help="images that a patch for all is trained and tried on"
    )
    options.add_argument("--steps", type=int, default=80, help="batches of 50 on which it is trained")
    given = options.parse_args()
    found = common.environment(given)
    art = importlib.util.find_spec("torchvision") is not None
    if not art:
        print("torchvision is not installed: ART's patches are left out")
    tables = {name: run(given, name, art) for name in CASES}
    settings = {"images": given.images, "training": given.training, "steps": given.steps}
    threats = {name: [repr(threat), repr(painted)] for name, (_, threat, painted) in CASES.items()}
    common.save(given.out, {"environment": found, **settings, "threats": threats, **tables})


if __name__ == "__main__":
    main()
