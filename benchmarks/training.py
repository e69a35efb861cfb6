"""What a step of robust training costs beside the least it can cost, and beside TRADES as its authors published it.

The floor of a PGD-K step is K forward and input-gradient passes, then one forward and one full backward pass. That of
TRADES has one more forward pass, for the clean answer that the inner attack is measured from, and its last pass is over
clean and perturbed inputs. Contestants take turns, as in ``overhead.py``; the optimizer is left out for all.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from functools import partial

import common
import torch
from common import Case
from overhead import resnet18, small
from torch import Tensor, nn
from torch.nn import functional

from advlib import Linf, pgd
from advlib.defenses import TRADES, AdversarialTraining, LossOutput
from advlib.models import Counted

STEPS = 10


def floor(model: nn.Module, x: Tensor, y: Tensor, trades: bool) -> None:
    """The passes alone."""
    model.eval()
    if trades:
        with torch.no_grad():
            model(x)
    points = x
    for _ in range(STEPS):
        points = points.detach().requires_grad_()
        loss = functional.cross_entropy(model(points), y, reduction="sum")
        torch.autograd.grad(loss, points)
    model.train()
    batch, labels = (torch.cat([x, x]), torch.cat([y, y])) if trades else (x, y)
    functional.cross_entropy(model(batch), labels).backward()


def published_trades(model: nn.Module, x: Tensor, y: Tensor, eps: float, beta: float = 6.0) -> None:
    """TRADES in the form that its authors published: the clean answer anew at every inner step, and once more after."""
    divergence = nn.KLDivLoss(reduction="sum")
    model.eval()
    x_adv = x + 0.001 * torch.randn_like(x)
    for _ in range(STEPS):
        x_adv = x_adv.detach().requires_grad_()
        loss = divergence(functional.log_softmax(model(x_adv), dim=1), functional.softmax(model(x), dim=1))
        (gradient,) = torch.autograd.grad(loss, [x_adv])
        x_adv = x_adv.detach() + eps / 4 * gradient.sign()
        x_adv = torch.clamp(torch.minimum(torch.maximum(x_adv, x - eps), x + eps), 0.0, 1.0)
    model.train()
    logits = model(x)
    robust = divergence(functional.log_softmax(model(x_adv), dim=1), functional.softmax(model(x), dim=1)) / len(x)
    (functional.cross_entropy(logits, y) + beta * robust).backward()


def step(objective: Callable[..., LossOutput], model: nn.Module, x: Tensor, y: Tensor) -> None:
    objective(model, x, y).loss.backward()


def compare(case: Case, rounds: int, device: str) -> list[dict[str, object]]:
    name, model, x, y, eps = case
    attack = partial(pgd, threat=Linf(eps), steps=STEPS, step_size=eps / 4, keep="last")
    groups: dict[str, dict[str, Callable[[nn.Module], object]]] = {
        "PGD-10": {
            "floor": lambda model: floor(model, x, y, False),
            "floor again": lambda model: floor(model, x, y, False),
            "advlib": lambda model: step(AdversarialTraining(attack), model, x, y),
        },
        "TRADES": {
            "floor": lambda model: floor(model, x, y, True),
            "floor again": lambda model: floor(model, x, y, True),
            "advlib": lambda model: step(TRADES(attack), model, x, y),
            "the authors' form": lambda model: published_trades(model, x, y, eps),
        },
    }
    rows = []
    for group, contestants in groups.items():
        model.train()
        calls = {each: functools.partial(call, model) for each, call in contestants.items()}
        clear = functools.partial(model.zero_grad, set_to_none=True)
        title = f"{group}, {name}"
        seconds = common.interleaved(calls, dict.fromkeys(calls, rounds), device, title, clear)
        ratio = common.ratios(seconds, ("floor", "floor again"))
        for each, call in contestants.items():
            counted = Counted(copy.deepcopy(model)).train()
            call(counted)
            median, low, high = common.spread(ratio[each])
            row = {"network": name, "training": group, "step": each, "x floor": median, "20 %": low, "80 %": high}
            passes = {"forwards": counted.forwards / len(x), "backwards": counted.backwards / len(x)}
            rows.append({**row, "rounds": rounds, "ms": 1000 * common.spread(seconds[each])[0], **passes})
    return rows


def main() -> None:
    options = common.parser(__doc__.splitlines()[0], "training.json")
    options.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    options.add_argument("--rounds", type=int, default=41, help="rounds on the small network")
    options.add_argument("--resnet-rounds", type=int, default=15, help="rounds on the ResNet-18; 0 leaves it out")
    given = options.parse_args()
    environment = common.environment(given, given.device)
    rows = compare(small(256, given.device), given.rounds, given.device)
    if given.resnet_rounds:
        rows += compare(resnet18(16, given.device), given.resnet_rounds, given.device)
    common.table(f"One training step, {STEPS} attack steps: time in floors, samples per example", rows)
    common.save(given.out, {"environment": environment, "steps": STEPS, "rows": rows})


if __name__ == "__main__":
    main()
