"""Breaks the library in many small ways and reports which test noticed; a break that none notices is a failure.

Each mutant replaces one piece of source by another, in a copy of the tree, and runs the tests named beside it. These
are run on the source as it is first: where they fail there, they tell nothing.

    python tests/mutants.py                 all of them
    python tests/mutants.py jsma pairs      those whose file holds one of these words
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import queue
import shutil
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

ROOT = Path(__file__).parent.parent
PROCESSES = multiprocessing.get_context("forkserver")  # each a copy of one that has imported what takes long
PROCESSES.set_forkserver_preload(["pytest", "scipy.optimize", "torch"])


class Mutant(NamedTuple):
    """One break: in which file, what becomes what, and the tests that must notice."""

    file: str
    old: str
    new: str
    tests: str


def whole(tests: str) -> Mutant:
    """The source as it is, under the same tests."""
    return Mutant("__init__.py", "", "", tests)


MUTANTS = [
    Mutant("noise.py", "_ROUNDS = 10", "_ROUNDS = 9", "tests/test_noise.py"),
    Mutant("noise.py", "+ self.restart + (self.branch << 16)", "+ self.restart + self.branch", "tests/test_noise.py"),
    Mutant("noise.py", "words >> 8", "words >> 12", "tests/test_noise.py"),
    Mutant("noise.py", "value >> 32", "value", "tests/test_noise.py"),
    Mutant("noise.py", "(words >> 8).to(like.dtype) * _UNIT", "words.to(like.dtype) * 2.0**-32", "tests/test_noise.py"),
    Mutant("noise.py", "if self._words is None:", "if True:", "tests/test_noise.py"),
    Mutant("noise.py", "torch.log1p(-uniform[..., :2])", "torch.log(uniform[..., :2])", "tests/test_noise.py"),
    Mutant(
        "noise.py",
        "torch.cat([radius * angle.cos(), radius * angle.sin()], dim=-1)",
        "torch.cat([radius * angle.cos(), radius * angle.cos()], dim=-1)",
        "tests/test_noise.py",
    ),
    Mutant("noise.py", "uniform[..., 2:]", "uniform[..., :2]", "tests/test_noise.py"),
    Mutant("noise.py", "-torch.log1p(-self.uniform(like))", "-torch.log(self.uniform(like))", "tests/test_noise.py"),
    Mutant(
        "noise.py",
        "(block, self.row.unsqueeze(1), lane.unsqueeze(1), step.unsqueeze(1))",
        "(block, self.row.unsqueeze(1) + step.unsqueeze(1), lane.unsqueeze(1), 0 * step.unsqueeze(1))",
        "tests/test_noise.py",
    ),
    Mutant(
        "threats/base.py", "return like.new_full((), value)", "return torch.tensor(value).to(like)", "tests/threats"
    ),
    Mutant(
        "threats/base.py",
        "low, high = torch.where(threat.mask, low, x), torch.where(threat.mask, high, x)",
        "pass",
        "tests/threats",
    ),
    Mutant(
        "threats/base.py",
        "if isinstance(value, Tensor) and value.ndim and len(value) > 1 else value",
        "if False else value",
        "tests/threats",
    ),
    Mutant("threats/base.py", "unit * (4 * eps + largest", "unit * (400 * eps + 100 * largest", "tests/threats"),
    Mutant("threats/base.py", "rounding: Tensor = unit * (", "rounding: Tensor = 0 * (", "tests/threats"),
    Mutant(
        "threats/base.py",
        "torch.clamp(x_adv, *self.limits(x)) - x_adv",
        "torch.clamp(x_adv, *self.limits(x)).nan_to_num() - x_adv.nan_to_num()",
        "tests/threats",
    ),
    Mutant("threats/base.py", "abs().amax(1) == 0", "abs().amax(1) <= 1e-7", "tests/threats"),
    Mutant(
        "threats/base.py",
        "(low < high).expand_as(x), noise), low, high)",
        "(low <= high).expand_as(x), noise), low, high)",
        "tests/threats",
    ),
    Mutant(
        "threats/base.py",
        "return torch.clamp(self._sample_ball(x, (low < high).expand_as(x), noise), low, high)",
        "return self._sample_ball(x, (low < high).expand_as(x), noise)",
        "tests/threats",
    ),
    Mutant(
        "threats/base.py",
        "return torch.maximum(way * (high - x), way * (low - x))",
        "return torch.minimum(way * (high - x), way * (low - x)).abs()",
        "tests/threats",
    ),
    Mutant(
        "threats/base.py",
        "largest = grad.flatten(1).abs().amax(1)\n",
        "largest = grad.flatten(1).abs().amax().expand(len(grad))\n",
        "tests/threats",
    ),
    Mutant("threats/base.py", "torch.where(largest > 0, largest, 1)", "largest.clamp_min(1e-12)", "tests/threats"),
    Mutant(
        "threats/linf.py",
        "return (x_adv - x).abs().flatten(1).amax(1)",
        "return (x_adv - x).flatten(1).amax(1)",
        "tests/threats",
    ),
    Mutant("threats/linf.py", "torch.where(grad < 0, low, x)", "low", "tests/threats"),
    Mutant("threats/linf.py", "(2 * noise.uniform(x) - 1)", "noise.uniform(x)", "tests/threats"),
    Mutant(
        "threats/linf.py",
        "return dataclasses.replace(super().rows(index), ball=ball)",
        "return super().rows(index)",
        "tests/threats",
    ),
    Mutant(
        "threats/linf.py",
        "x - self.radius(x), x + self.radius(x)",
        "x - self.radius(x), x + 2 * self.radius(x)",
        "tests/threats",
    ),
    Mutant(
        "threats/l2.py",
        "outside = _norm((boxed - x).flatten(1)) > radius",
        "outside = _norm((boxed - x).flatten(1)) > 0",
        "tests/threats",
    ),
    Mutant("threats/l2.py", "return filled / _norm(filled)", "return filled", "tests/threats"),
    Mutant("threats/l2.py", "** (1 / features)", "** (1 / (features + 1))", "tests/threats"),
    Mutant(
        "threats/l2.py", "features = free.flatten(1).sum(1).clamp_min(1)", "features = free[0].numel()", "tests/threats"
    ),
    Mutant(
        "threats/l2.py",
        "direction = torch.where(free, noise.normal(x), 0)",
        "direction = torch.where(free, noise.uniform(x) - 0.5, 0)",
        "tests/threats",
    ),
    Mutant(
        "threats/l2.py",
        "noise.stream(1).uniform(x.new_empty(len(x), 1))",
        "noise.uniform(x.new_empty(len(x), 1))",
        "tests/threats",
    ),
    Mutant(
        "threats/l2.py",
        "length = _norm(grad.flatten(1)).clamp_min(1)",
        "length = _norm(grad.flatten(1)).amax().expand(len(grad),1).clamp_min(1)",
        "tests/threats",
    ),
    Mutant(
        "threats/l2.py",
        "capacity = torch.where(grad != 0, room(grad, x, box), 0)",
        "capacity = room(grad, x, box)",
        "tests/threats",
    ),
    Mutant("threats/l2.py", "dtype=torch.float64)", "dtype=flat.dtype)", "tests/threats"),
    Mutant("threats/l2.py", "amount(root), capacity", "amount(least), capacity", "tests/threats"),
    Mutant(
        "threats/l2.py",
        "1, growing.sum(1, keepdim=True).double() / t",
        "1, growing.sum(1, keepdim=True).double()",
        "tests/threats",
    ),
    Mutant(
        "threats/l1.py", "slack = noise.stream(1).exponential(x.new_empty(len(x), 1))", "slack = 0", "tests/threats"
    ),
    Mutant("threats/l1.py", "size * noise.stream(2).signs(x)", "size", "tests/threats"),
    Mutant(
        "threats/l1.py", ".clamp_min(torch.finfo(x.dtype).tiny)\n        change", "\n        change", "tests/threats"
    ),
    Mutant(
        "threats/l1.py",
        "max(1, round(share * flat.shape[1]))",
        "max(1, int(share * flat.shape[1]) + 1)",
        "tests/threats",
    ),
    Mutant("threats/l1.py", "flat.abs().topk", "flat.topk", "tests/threats"),
    Mutant(
        "threats/l1.py",
        "index = flat.abs().argsort(1, descending=True)",
        "index = flat.argsort(1, descending=True)",
        "tests/threats",
    ),
    Mutant(
        "threats/l1.py",
        "kept = _refined(magnitude + shift, capacity, radius)",
        "kept = torch.minimum((magnitude + shift).clamp_min(0), capacity)",
        "tests/threats",
    ),
    Mutant(
        "threats/l1.py",
        "capacity = torch.minimum(room(grad, x, (low, high)), self.radius(x))",
        "capacity = room(grad, x, (low, high))",
        "tests/threats",
    ),
    Mutant("threats/l1.py", "threat.limits(x_adv)) > rounding", "threat.limits(grad)) > rounding", "tests/threats"),
    Mutant("threats/l1.py", "dtype=torch.float64)", "dtype=flat.dtype)", "tests/threats"),
    Mutant("threats/l0.py", "(x_adv - x).double(), (boxed - x).double()", "x_adv - x, boxed - x", "tests/threats"),
    Mutant("threats/l0.py", "possible * (2 * wanted - possible)", "possible * possible", "tests/threats"),
    Mutant("threats/l0.py", "possible * (2 * wanted - possible)", "wanted * wanted", "tests/threats"),
    Mutant("threats/l0.py", "flatten(1).floor()", "flatten(1).ceil()", "tests/threats"),
    Mutant("threats/l0.py", "above | (equal &", "above & (equal &", "tests/threats"),
    Mutant("threats/l0.py", "(equal.cumsum(1) <= left)", "(equal.cumsum(1) <= kept)", "tests/threats"),
    Mutant("threats/l0.py", "(equal & (equal.cumsum(1) <= left))", "equal", "tests/threats"),
    Mutant("threats/l0.py", "change * normalized(grad)", "change.abs()", "tests/threats"),
    Mutant("threats/l0.py", "change * normalized(grad)", "normalized(grad).abs()", "tests/threats"),
    Mutant("threats/l0.py", "return values.sum(1).flatten(1)", "return values.amax(1).flatten(1)", "tests/threats"),
    Mutant("threats/l0.py", "order = torch.where(order > 0, 1 + pixel, 0)", "pass", "tests/threats"),
    Mutant(
        "threats/l0.py",
        "low, high = self.limits(x)\n        if",
        "low, high = (torch.as_tensor(b).to(x) for b in self.bounds or (-torch.inf, torch.inf))\n        if",
        "tests/threats",
    ),
    Mutant("threats/roots.py", "(size < nearest) & (nearest > tolerance)", "(size < nearest)", "tests/threats"),
    Mutant(
        "threats/roots.py",
        "usable = (newton > low) & (newton < high) & ~slow",
        "usable = (newton > low) & (newton < high)",
        "tests/threats",
    ),
    Mutant(
        "threats/roots.py", "point = torch.where(usable, newton, middle(low, high))", "point = newton", "tests/threats"
    ),
    Mutant("threats/roots.py", "_STEPS = 48", "_STEPS = 8", "tests/threats"),
    Mutant(
        "losses.py",
        "-functional.cross_entropy(logits, target",
        "functional.cross_entropy(logits, target",
        "tests/test_losses.py",
    ),
    Mutant(
        "losses.py",
        "torch.where(y == target, _best_other(values, target), _pick(values, y))",
        "_pick(values, y)",
        "tests/test_losses.py",
    ),
    Mutant(
        "losses.py",
        "torch.where(y == target, _best_other(values, target), _pick(values, y))",
        "_best_other(values, target)",
        "tests/test_losses.py",
    ),
    Mutant("losses.py", "-torch.inf).amax(1)", "0.0).amax(1)", "tests/test_losses.py"),
    Mutant("losses.py", "(top[:, 2] + top[:, 3]) / 2", "top[:, 2]", "tests/test_losses.py"),
    Mutant("losses.py", "+ 1e-12)", ")", "tests/test_losses.py"),
    Mutant("losses.py", "or loss not in LOSSES.values()", "", "tests/test_losses.py"),
    Mutant(
        "losses.py",
        "on_logits(logits_of(output), y, target)",
        "on_logits(logits_of(output), y)",
        "tests/test_losses.py",
    ),
    Mutant(
        "gradients.py", "torch.zeros_like(x) if gradient is None else gradient", "gradient", "tests/test_gradients.py"
    ),
    Mutant(
        "gradients.py",
        "    if not value.requires_grad:\n        return torch.zeros_like(x)\n",
        "",
        "tests/test_gradients.py",
    ),
    Mutant("gradients.py", "ask(x + delta * direction)", "ask(2 * x + delta * direction)", "tests/test_gradients.py"),
    Mutant("gradients.py", "2 * delta) if antithetic", "delta) if antithetic", "tests/test_gradients.py"),
    Mutant("gradients.py", "noise.stream(_STREAM + sample)", "noise.stream(_STREAM)", "tests/test_gradients.py"),
    Mutant("gradients.py", "samples * len(values))", "samples)", "tests/test_gradients.py"),
    Mutant(
        "gradients.py",
        "torch.stack([estimate.output for estimate in seen]).mean(0)",
        "seen[-1].output",
        "tests/test_gradients.py",
    ),
    Mutant("gradients.py", "slope += rate * direction", "slope += rate", "tests/test_gradients.py"),
    Mutant("gradients.py", "1 + samples * (2 if antithetic else 1)", "samples * 2", "tests/test_gradients.py"),
    Mutant(
        "gradients.py",
        "with torch.inference_mode(False), torch.enable_grad():\n        classes",
        "with torch.enable_grad():\n        classes",
        "tests/test_gradients.py",
    ),
    Mutant(
        "models.py",
        "(x - self.mean.reshape(shape)) / self.std.reshape(shape)",
        "(x - self.mean.reshape(shape)) * self.std.reshape(shape)",
        "tests/test_models.py",
    ),
    Mutant("models.py", "logits.log_softmax(-1).logsumexp(0)", "logits.logsumexp(0)", "tests/test_models.py"),
    Mutant("models.py", "- torch.tensor(float(len(self.models))).log().to(logits)", "", "tests/test_models.py"),
    Mutant("models.py", "return None, gradients[0]", "return gradients[0], None", "tests/test_models.py"),
    Mutant("models.py", "return exact.view_as(exact)", "return stand_in.view_as(exact)", "tests/test_models.py"),
    Mutant("models.py", "self.backwards += len(gradient)", "self.backwards += 1", "tests/test_models.py"),
    Mutant("models.py", "x = x.view_as(x)  #", "#", "tests/test_models.py"),
    Mutant(
        "models.py",
        "        with torch.no_grad():\n            exact = self.layer(x)",
        "        exact = self.layer(x)",
        "tests/test_models.py",
    ),
    Mutant(
        "search.py",
        "torch.where(success == best.success, score > best.score, success)",
        "score > best.score",
        "tests/test_search.py",
    ),
    Mutant(
        "search.py",
        "torch.where(success == best.success, score > best.score, success)",
        "torch.ones_like(success)",
        "tests/test_search.py",
    ),
    Mutant(
        "search.py",
        "torch.where(success == best.success, score > best.score, success)",
        "torch.where(success == best.success, score < best.score, success)",
        "tests/test_search.py",
    ),
    Mutant(
        "search.py",
        "nan=-torch.inf, neginf",
        "nan=torch.inf, neginf",
        "tests/laws/test_model_untouched.py -k nan_logits",
    ),
    Mutant("search.py", "success, loss = success & inside,", "success, loss = success,", "tests/test_search.py"),
    Mutant(
        "search.py",
        "torch.where(success, -task.threat.distance(point, task.x), -torch.inf)",
        "-task.threat.distance(point, task.x)",
        "tests/test_search.py",
    ),
    Mutant(
        "search.py",
        "torch.where(success, -task.threat.distance(point, task.x), -torch.inf)",
        "torch.where(success, task.threat.distance(point, task.x), -torch.inf)",
        "tests/test_search.py",
    ),
    Mutant(
        "search.py",
        'state.candidate if hasattr(state, "candidate") else state.query',
        "state.query",
        "tests/test_search.py",
    ),
    Mutant("search.py", "feedback.candidate or feedback, task", "feedback, task", "tests/test_search.py"),
    Mutant(
        "search.py",
        "            best = best._replace(x_adv=point.detach())\n",
        "            pass\n",
        "tests/test_search.py",
    ),
    Mutant(
        "search.py",
        "            return best._replace(x_adv=point)\n",
        "            return best\n",
        "tests/test_search.py",
    ),
    Mutant(
        "search.py",
        "            feedback = self._ask(point, task, 0, noise)\n            best = self._judge(best, point, feedback, task, restart, self.steps, done)\n",
        "            pass\n",
        "tests/test_search.py tests/attacks/test_gradient_attacks.py",
    ),
    Mutant("search.py", "finished if done is None else done | finished", "~finished", "tests/test_search.py"),
    Mutant(
        "search.py",
        "finished = best.success if finished is None else finished | best.success",
        "pass",
        "tests/test_search.py",
    ),
    Mutant("search.py", "better = better & ~done", "pass", "tests/test_search.py"),
    Mutant("search.py", "bool(better.all())", "bool(better.any())", "tests/test_search.py"),
    Mutant("search.py", "success | best.success, scores", "success, scores", "tests/test_search.py"),
    Mutant("search.py", "scores = kept if score is loss else", "scores = kept if True else", "tests/test_search.py"),
    Mutant("search.py", "self.rule.order, noise)", "1, noise)", "tests/test_search.py"),
    Mutant(
        "search.py",
        "noise._replace(row=task.row, step=step + 1)",
        "noise._replace(row=task.row, step=1)",
        "tests/laws/test_independence.py tests/attacks",
    ),
    Mutant(
        "search.py",
        "noise._replace(row=task.row, step=step + 1)",
        "noise._replace(step=step + 1)",
        "tests/test_search.py tests/laws/test_independence.py",
    ),
    Mutant(
        "search.py",
        "Noise(self.evaluator.key, task.row, restart)",
        "Noise(self.evaluator.key, task.row)",
        "tests/test_search.py",
    ),
    Mutant("search.py", "self.rule.enter(self.init[task.row], task)", "self.init[task.row]", "tests/test_search.py"),
    Mutant(
        "search.py",
        "self.rule.enter(self.init[task.row], task)",
        "self.rule.enter(self.init[: len(task.row)], task)",
        "tests/test_search.py tests/laws/test_independence.py",
    ),
    Mutant(
        "search.py", "if self.init is not None and restart == 0", "if self.init is not None", "tests/test_search.py"
    ),
    Mutant("search.py", "if self.random_start else task.x", "if False else task.x", "tests/test_search.py"),
    Mutant(
        "search.py",
        "            todo = (~best.success).nonzero().squeeze(1)",
        "            todo = (best.success | True).nonzero().squeeze(1)",
        "tests/test_search.py",
    ),
    Mutant(
        "search.py",
        "        for restart in range(restarts):",
        "        for restart in range(1):",
        "tests/test_search.py",
    ),
    Mutant("search.py", "        if not bool(inside.all()):", "        if False:", "tests/test_search.py"),
    Mutant("search.py", ", place[left]\n", ", place\n", "tests/test_search.py"),
    Mutant(
        "search.py",
        "            evaluator.threat.distance(best.x_adv, evaluator.x),",
        "            evaluator.threat.distance(evaluator.x, evaluator.x),",
        "tests/test_search.py",
    ),
    Mutant(
        "guarding.py",
        "        for module in modules:\n            module.training = True\n",
        "",
        "tests/test_search.py tests/laws/test_model_untouched.py",
    ),
    Mutant(
        "guarding.py",
        "        for module in modules:\n            module.training = False\n",
        "",
        "tests/laws/test_model_untouched.py",
    ),
    Mutant(
        "guarding.py",
        "[m for m in model.modules() if m.training]",
        "[m for m in model.modules()]",
        "tests/test_search.py",
    ),
    Mutant(
        "guarding.py",
        "            parameter.requires_grad_(True)",
        "            pass",
        "tests/laws/test_model_untouched.py",
    ),
    Mutant(
        "guarding.py",
        "        with torch.inference_mode(False), torch.no_grad():\n            yield",
        "        with torch.no_grad():\n            yield",
        "tests/laws/test_model_untouched.py",
    ),
    Mutant("search.py", "self.evaluator.interruption = error", "pass", "tests/test_oracles.py"),
    Mutant(
        "search.py",
        "        if self.evaluator.interruption is not None:\n            return best\n",
        "",
        "tests/test_oracles.py",
    ),
    Mutant("evaluator.py", "if order and isinstance(self.model, LabelOracle):", "if False:", "tests/test_oracles.py"),
    Mutant(
        "evaluator.py",
        "order and probabilities and not isinstance(self.model, Oracle)",
        "order and probabilities",
        "tests/test_oracles.py",
    ),
    Mutant("evaluator.py", "not isinstance(self.interruption, OutOfBudget)", "True", "tests/test_oracles.py"),
    Mutant("evaluator.py", "            self.interruption.result = result\n", "", "tests/test_oracles.py"),
    Mutant(
        "attacks/labels.py",
        "queries - self._evaluator.forwards[rows]",
        "queries - 0 * self._evaluator.forwards[rows]",
        "tests/attacks/test_labels.py",
    ),
    Mutant(
        "attacks/labels.py",
        "        done = self.distance[rows] == 0\n",
        "        done = self.distance[rows] < 0\n",
        "tests/attacks/test_labels.py",
    ),
    Mutant(
        "attacks/labels.py",
        "            done |= self.threat.contains(self.best, self.x)[rows] & self.distance[rows].isfinite()\n",
        "            pass\n",
        "tests/attacks/test_labels.py",
    ),
    Mutant(
        "attacks/labels.py",
        " & self.distance[rows].isfinite()\n        return torch.where(done",
        "\n        return torch.where(done",
        "tests/attacks/test_labels.py",
    ),
    Mutant(
        "attacks/labels.py",
        "return torch.clamp(points, self.low[rows], self.high[rows])",
        "return points",
        "tests/attacks/test_labels.py",
    ),
    Mutant(
        "attacks/labels.py",
        "distance = torch.where(success, self.threat.distance(points, x), torch.inf)",
        "distance = self.threat.distance(points, x)",
        "tests/attacks/test_labels.py",
    ),
    Mutant("attacks/labels.py", "& (distance < self.distance[rows])", "", "tests/attacks/test_labels.py"),
    Mutant("attacks/labels.py", "won = won[won == first[rows[won]]]", "pass", "tests/attacks/test_labels.py"),
    Mutant(
        "attacks/labels.py",
        "            self.ask(self.inside(self.init[rows], rows), rows)\n",
        "            pass\n",
        "tests/attacks/test_labels.py",
    ),
    Mutant(
        "attacks/labels.py",
        "min(tried + 1, _STARTS - tried, int(self.left(rows).amin()))",
        "min(tried + 1, _STARTS - tried)",
        "tests/attacks/test_labels.py",
    ),
    Mutant(
        "attacks/labels.py",
        "min(tried + 1, _STARTS - tried, int(self.left(rows).amin()))",
        "min(tried + 1, int(self.left(rows).amin()))",
        "tests/attacks/test_labels.py",
    ),
    Mutant(
        "attacks/labels.py",
        "min(tried + 1, _STARTS - tried, int(self.left(rows).amin()))",
        "min(1, _STARTS - tried, int(self.left(rows).amin()))",
        "tests/attacks/test_labels.py",
    ),
    Mutant(
        "attacks/labels.py",
        "rows = rows[self.distance[rows].isinf() & (self.left(rows) > 0)]",
        "rows = rows[self.left(rows) > 0]",
        "tests/attacks/test_labels.py",
    ),
    Mutant(
        "attacks/labels.py",
        "            tried += count\n",
        "            tried += max(count, 2)\n",
        "tests/attacks/test_labels.py",
    ),
    Mutant("attacks/labels.py", "share.round()", "share", "tests/attacks/test_labels.py"),
    Mutant("attacks/labels.py", "level.expand_as(x), share))", "share, share))", "tests/attacks/test_labels.py"),
    Mutant("attacks/labels.py", "torch.lerp(x, point, level.expand_as(x))", "point", "tests/attacks/test_labels.py"),
    Mutant("attacks/labels.py", "* (1 + number)  #", "* 1  #", "tests/attacks/test_labels.py"),
    Mutant("attacks/labels.py", "(2 * share - 1)", "share", "tests/attacks/test_labels.py"),
    Mutant("attacks/labels.py", "middle * length[todo]", "middle", "tests/attacks/test_labels.py"),
    Mutant(
        "attacks/labels.py",
        "(most - least > tolerance)",
        "(most - least > 2 * tolerance)",
        "tests/attacks/test_labels.py",
    ),
    Mutant("attacks/labels.py", "torch.where(success, least[todo], middle)", "middle", "tests/attacks/test_labels.py"),
    Mutant(
        "attacks/labels.py",
        "self.distance.isfinite()).nonzero().squeeze(1)\n        return int((~self",
        "self.distance.isfinite()).nonzero().squeeze(1)[:0]\n        return int((~self",
        "tests/attacks/test_labels.py",
    ),
    Mutant("attacks/labels.py", "max(evaluator.model.left // len(x), 1)", "queries", "tests/attacks/test_labels.py"),
    Mutant(
        "attacks/labels.py", "Walk(evaluator, queries - 1,", "Walk(evaluator, queries,", "tests/attacks/test_labels.py"
    ),
    Mutant(
        "attacks/labels.py",
        "            evaluator.interruption = error\n",
        "            raise\n",
        "tests/attacks/test_labels.py",
    ),
    Mutant(
        "attacks/labels.py", "& evaluator.threat.contains(walk.best, evaluator.x)", "", "tests/attacks/test_labels.py"
    ),
    Mutant("attacks/labels.py", "        evaluator.concluded(result)\n", "", "tests/attacks/test_labels.py"),
    Mutant("attacks/labels.py", "    if nowhere:\n", "    if False:\n", "tests/attacks/test_labels.py"),
    Mutant("attacks/labels.py", "    if 10 * lost > rows:", "    if False:", "tests/attacks/test_labels.py"),
    Mutant(
        "attacks/labels.py", 'if given else "no start', 'if not given else "no start', "tests/attacks/test_labels.py"
    ),
    Mutant("attacks/labels.py", "like.ndim < 3 or share == 1", "True", "tests/attacks/test_labels.py"),
    Mutant("attacks/labels.py", "like.ndim < 3 or share == 1", "like.ndim < 3", "tests/attacks/test_labels.py"),
    Mutant("attacks/labels.py", "math.ceil(share * size)", "size", "tests/attacks/test_labels.py"),
    Mutant("attacks/labels.py", "(place + 0.5)", "place", "tests/attacks/test_labels.py"),
    Mutant(
        "attacks/hop_skip_jump.py",
        "-2.0 if isinstance(walk.threat, Linf) else -1.5",
        "-1.5",
        "tests/attacks/test_hop_skip_jump.py",
    ),
    Mutant(
        "attacks/hop_skip_jump.py",
        ".clamp(4 * torch.finfo(walk.x.dtype).eps, _TOLERANCE)",
        ".clamp_min(4 * torch.finfo(walk.x.dtype).eps)",
        "tests/attacks/test_hop_skip_jump.py",
    ),
    Mutant(
        "attacks/hop_skip_jump.py",
        ".clamp(4 * torch.finfo(walk.x.dtype).eps, _TOLERANCE)",
        ".clamp_max(_TOLERANCE)",
        "tests/attacks/test_hop_skip_jump.py",
    ),
    Mutant(
        "attacks/hop_skip_jump.py",
        "(walk.low < walk.high).flatten(1)",
        "(walk.low <= walk.high).flatten(1)",
        "tests/attacks/test_hop_skip_jump.py",
    ),
    Mutant(
        "attacks/hop_skip_jump.py",
        "self.samples * math.sqrt(estimates)",
        "self.samples",
        "tests/attacks/test_hop_skip_jump.py",
    ),
    Mutant("attacks/hop_skip_jump.py", "length / features[side.row]", "length", "tests/attacks/test_hop_skip_jump.py"),
    Mutant(
        "attacks/hop_skip_jump.py",
        "self.memory * normal[side.row] + estimate",
        "estimate",
        "tests/attacks/test_hop_skip_jump.py",
    ),
    Mutant(
        "attacks/hop_skip_jump.py", "length / math.sqrt(estimates))", "length)", "tests/attacks/test_hop_skip_jump.py"
    ),
    Mutant(
        "attacks/hop_skip_jump.py",
        "            estimates += 1\n",
        "            estimates = 1\n",
        "tests/attacks/test_hop_skip_jump.py",
    ),
    Mutant(
        "attacks/hop_skip_jump.py",
        "            drawn = drawn / column(torch.linalg.vector_norm(drawn.flatten(1), dim=1), drawn)\n",
        "",
        "tests/attacks/test_hop_skip_jump.py",
    ),
    Mutant(
        "attacks/hop_skip_jump.py",
        "torch.where(walk.ask(asked, row), 1.0, -1.0)",
        "torch.where(walk.ask(asked, row), -1.0, 1.0)",
        "tests/attacks/test_hop_skip_jump.py",
    ),
    Mutant(
        "attacks/hop_skip_jump.py",
        "torch.where(mean.abs() == 1, 0, mean)",
        "mean",
        "tests/attacks/test_hop_skip_jump.py",
    ),
    Mutant(
        "attacks/hop_skip_jump.py",
        "(answers - column(mean, ways) * ways)",
        "answers",
        "tests/attacks/test_hop_skip_jump.py",
    ),
    Mutant("attacks/hop_skip_jump.py", "        length[todo] /= 2\n", "", "tests/attacks/test_hop_skip_jump.py"),
    Mutant(
        "attacks/hop_skip_jump.py",
        "number += walk.asked(side.row)[sample]",
        "number += 0",
        "tests/attacks/test_hop_skip_jump.py",
    ),
    Mutant(
        "attacks/hop_skip_jump.py",
        "- (count.cumsum(0) - count)[sample]",
        "- 0 * (count.cumsum(0) - count)[sample]",
        "tests/attacks/test_hop_skip_jump.py",
    ),
    Mutant(
        "attacks/hop_skip_jump.py",
        "(walk.left(side.row) - spare[side.row])",
        "walk.left(side.row)",
        "tests/attacks/test_hop_skip_jump.py",
    ),
    Mutant(
        "attacks/ray_search.py",
        "(r.idle < 2 * count[r.row])",
        "(r.idle < 99)",
        "tests/attacks/test_ray_search.py tests/attacks/test_labels.py",
    ),
    Mutant(
        "attacks/ray_search.py",
        "(walk.init - x).sign()",
        "walk.init - x",
        "tests/attacks/test_ray_search.py tests/attacks/test_labels.py",
    ),
    Mutant(
        "attacks/ray_search.py",
        "most - least <= self.tolerance * most",
        "most - least <= 2 * self.tolerance * most",
        "tests/attacks/test_ray_search.py tests/attacks/test_labels.py",
    ),
    Mutant(
        "attacks/ray_search.py",
        "2 * r.step, self",
        "r.step, self",
        "tests/attacks/test_ray_search.py tests/attacks/test_labels.py",
    ),
    Mutant(
        "attacks/ray_search.py",
        "step = torch.where(r.length.isfinite(), step, torch.inf)",
        "pass",
        "tests/attacks/test_ray_search.py tests/attacks/test_labels.py",
    ),
    Mutant(
        "attacks/ray_search.py",
        "torch.maximum(most - step, most / 2)",
        "(most - step).clamp_min(0)",
        "tests/attacks/test_ray_search.py tests/attacks/test_labels.py",
    ),
    Mutant(
        "attacks/ray_search.py",
        "        way = choose(won, r.trial, r.way)\n",
        "        way = r.way\n",
        "tests/attacks/test_ray_search.py tests/attacks/test_labels.py",
    ),
    Mutant(
        "attacks/ray_search.py",
        "torch.minimum(2 * r.blocks, count)",
        "2 * r.blocks",
        "tests/attacks/test_ray_search.py tests/attacks/test_labels.py",
    ),
    Mutant(
        "attacks/ray_search.py",
        "torch.minimum(2 * r.blocks, count)",
        "r.blocks",
        "tests/attacks/test_ray_search.py tests/attacks/test_labels.py",
    ),
    Mutant(
        "attacks/ray_search.py",
        "shorter = won & (most < r.length)",
        "shorter = won",
        "tests/attacks/test_ray_search.py tests/attacks/test_labels.py",
    ),
    Mutant(
        "attacks/ray_search.py",
        "fresh = torch.where(length.isfinite(), length, span)",
        "fresh = span",
        "tests/attacks/test_ray_search.py tests/attacks/test_labels.py",
    ),
    Mutant(
        "attacks/ray_search.py",
        "torch.where(space.isfinite(), space, 2 + 2",
        "torch.where(space.isfinite(), space, 0 * 2",
        "tests/attacks/test_ray_search.py tests/attacks/test_labels.py",
    ),
    Mutant(
        "attacks/ray_search.py",
        "free = (walk.low < walk.high)",
        "free = (walk.low <= walk.high)",
        "tests/attacks/test_ray_search.py tests/attacks/test_labels.py",
    ),
    Mutant(
        "attacks/surfree.py",
        "r.angle.cos() ** 2",
        "r.angle.cos()",
        "tests/attacks/test_surfree.py tests/attacks/test_labels.py",
    ),
    Mutant(
        "attacks/surfree.py",
        "& (walk.threat.distance(asked, x) < walk.threat.distance(r.found, x))",
        "",
        "tests/attacks/test_surfree.py tests/attacks/test_labels.py",
    ),
    Mutant(
        "attacks/surfree.py",
        "torch.where(first, 2 * size,",
        "torch.where(first, size,",
        "tests/attacks/test_surfree.py tests/attacks/test_labels.py",
    ),
    Mutant(
        "attacks/surfree.py",
        "torch.where(found, self.bisections, 2)",
        "2 + 0 * size",
        "tests/attacks/test_surfree.py tests/attacks/test_labels.py",
    ),
    Mutant(
        "attacks/surfree.py",
        "torch.where(first, 0, r.tries + 1)",
        "r.tries + 1",
        "tests/attacks/test_surfree.py tests/attacks/test_labels.py",
    ),
    Mutant(
        "attacks/surfree.py",
        "torch.where(first, 1 / self.growth, ",
        "torch.where(first, 1.0, ",
        "tests/attacks/test_surfree.py tests/attacks/test_labels.py",
    ),
    Mutant(
        "attacks/surfree.py",
        "torch.where(over & ~found, self.growth, 1.0)",
        "1.0",
        "tests/attacks/test_surfree.py tests/attacks/test_labels.py",
    ),
    Mutant(
        "attacks/surfree.py", ".clamp_max(_WIDEST)", "", "tests/attacks/test_surfree.py tests/attacks/test_labels.py"
    ),
    Mutant("attacks/surfree.py", "-r.angle)", "r.angle)", "tests/attacks/test_surfree.py tests/attacks/test_labels.py"),
    Mutant(
        "attacks/surfree.py",
        "point=choose(over, nearest, r.point)",
        "point=nearest",
        "tests/attacks/test_surfree.py tests/attacks/test_labels.py",
    ),
    Mutant(
        "attacks/surfree.py",
        " * (walk.low[row] < walk.high[row])",
        "",
        "tests/attacks/test_surfree.py tests/attacks/test_labels.py",
    ),
    Mutant(
        "attacks/surfree.py",
        "drawn - column((drawn * way).flatten(1).sum(1), x) * way",
        "drawn",
        "tests/attacks/test_surfree.py tests/attacks/test_labels.py",
    ),
    Mutant(
        "attacks/surfree.py",
        "walk.to_boundary(side, _TOLERANCE)",
        "side",
        "tests/attacks/test_surfree.py tests/attacks/test_labels.py",
    ),
    Mutant("attacks/boundary_attack.py", " & (r.nearer > _SMALLEST)", "", "tests/attacks/test_boundary_attack.py"),
    Mutant(
        "attacks/boundary_attack.py", "alone=step % _EVERY == 0", "alone=False", "tests/attacks/test_boundary_attack.py"
    ),
    Mutant(
        "attacks/boundary_attack.py",
        "torch.where(success, _ASIDE, 1 / _ASIDE)",
        "torch.where(success, 1 / _ASIDE, _ASIDE)",
        "tests/attacks/test_boundary_attack.py",
    ),
    Mutant("attacks/boundary_attack.py", "_NEARER**3", "_NEARER", "tests/attacks/test_boundary_attack.py"),
    Mutant(
        "attacks/boundary_attack.py",
        "drawn - column((drawn * way).flatten(1).sum(1), x) * way",
        "drawn",
        "tests/attacks/test_boundary_attack.py",
    ),
    Mutant(
        "attacks/boundary_attack.py", " * (walk.low[row] < walk.high[row])", "", "tests/attacks/test_boundary_attack.py"
    ),
    Mutant("attacks/boundary_attack.py", "length * (1 - r.nearer)", "length", "tests/attacks/test_boundary_attack.py"),
    Mutant(
        "attacks/boundary_attack.py",
        "choose(success, asked, r.point)",
        "r.point",
        "tests/attacks/test_boundary_attack.py",
    ),
    Mutant("attacks/boundary_attack.py", ".clamp_max(0.5)", "", "tests/attacks/test_boundary_attack.py"),
    Mutant(
        "attacks/boundary_attack.py",
        "threat.steepest(torch.addcmul(way, column(r.aside, x), across))",
        "torch.addcmul(way, column(r.aside, x), across)",
        "tests/attacks/test_boundary_attack.py",
    ),
    Mutant("oracles.py", "x.requires_grad and torch.is_grad_enabled()", "False", "tests/test_oracles.py"),
    Mutant("oracles.py", "x.requires_grad and torch.is_grad_enabled()", "x.requires_grad", "tests/test_oracles.py"),
    Mutant("oracles.py", "len(x) > self.left", "False", "tests/test_oracles.py"),
    Mutant("oracles.py", "len(x) > self.left", "len(x) >= self.left", "tests/test_oracles.py"),
    Mutant("oracles.py", "self._batch_size or max(len(x), 1)", "max(len(x), 1)", "tests/test_oracles.py"),
    Mutant("oracles.py", "with guard(self._predict):", "with torch.enable_grad():", "tests/test_oracles.py"),
    Mutant("oracles.py", "points = x.clone()", "points = x", "tests/test_oracles.py"),
    Mutant("oracles.py", "points.flatten(1) if self._takes_lines else points", "points", "tests/test_oracles.py"),
    Mutant(
        "oracles.py",
        "answer.detach() if isinstance(answer, Tensor)",
        "answer if isinstance(answer, Tensor)",
        "tests/test_oracles.py",
    ),
    Mutant("oracles.py", "if len(scores) != len(x):", "if False:", "tests/test_oracles.py"),
    Mutant("oracles.py", "        self.queries += len(x)\n", "        self.queries += 1\n", "tests/test_oracles.py"),
    Mutant("oracles.py", "        self.queries += len(x)\n", "", "tests/test_oracles.py"),
    Mutant("oracles.py", "return scores.to(x)", "return scores", "tests/test_oracles.py"),
    Mutant("oracles.py", "if bool(scores.isnan().any()):", "if False:", "tests/test_oracles.py"),
    Mutant(
        "oracles.py",
        "        if self.classes is None:\n            self.classes = tuple(range",
        "        if True:\n            self.classes = tuple(range",
        "tests/test_oracles.py",
    ),
    Mutant("oracles.py", "if scores.shape[1] != len(self.classes):", "if False:", "tests/test_oracles.py"),
    Mutant("oracles.py", "estimates and classes is None and hasattr", "False and hasattr", "tests/test_oracles.py"),
    Mutant("oracles.py", "check_counts(budget=budget, batch_size=batch_size)", "pass", "tests/test_oracles.py"),
    Mutant("oracles.py", "            check_counts(classes=classes)\n", "", "tests/test_oracles.py"),
    Mutant(
        "oracles.py",
        "np.stack([-answer, answer], axis=1)",
        "np.stack([answer, -answer], axis=1)",
        "tests/test_oracles.py",
    ),
    Mutant(
        "oracles.py", "if answer.ndim != 2 or answer.shape[1] < 2:", "if answer.ndim != 2:", "tests/test_oracles.py"
    ),
    Mutant("oracles.py", "if answer.ndim != 2 or answer.shape[1] < 2:", "if False:", "tests/test_oracles.py"),
    Mutant(
        "oracles.py",
        "Access(observes=self.observes, queries=self.budget)",
        "Access(observes=self.observes)",
        "tests/test_oracles.py",
    ),
    Mutant("oracles.py", "check_counts(queries=self.queries)", "pass", "tests/test_oracles.py"),
    Mutant("oracles.py", "if estimates and not found:", "if False:", "tests/test_oracles.py"),
    Mutant("oracles.py", "            ) from error\n", "            )\n", "tests/test_oracles.py"),
    Mutant(
        "evaluator.py",
        "self.x = x.clone() if x.is_inference() else x.detach()",
        "self.x = x.detach()",
        "tests/laws/test_model_untouched.py",
    ),
    Mutant(
        "evaluator.py",
        "model.module if isinstance(model, nn.parallel.DistributedDataParallel) else model",
        "model",
        "tests/test_search.py",
    ),
    Mutant("evaluator.py", "if logits.dtype in (torch.float16, torch.bfloat16) else logits", "", "tests/defenses"),
    Mutant("evaluator.py", "return logits.float() if", "return logits if", "tests/defenses tests/test_search.py"),
    Mutant(
        "evaluator.py",
        "return torch.nan_to_num(gradient, 0.0, most, -most)",
        "return gradient",
        "tests/laws/test_model_untouched.py",
    ),
    Mutant("evaluator.py", "bool(gradient.sum().isfinite())", "True", "tests/laws/test_model_untouched.py"),
    Mutant(
        "evaluator.py",
        "feedback.success | (gradients[0].flatten(1).abs().amax(1) > 0)",
        "feedback.success | True",
        "tests/test_bad_input.py tests/laws/test_model_untouched.py",
    ),
    Mutant(
        "evaluator.py",
        "prediction == self.y if self.targeted else prediction != self.y",
        "prediction != self.y",
        "tests/attacks/test_jsma.py tests/test_search.py",
    ),
    Mutant("evaluator.py", "reached & (highest == highest)", "reached", "tests/laws/test_model_untouched.py"),
    Mutant("evaluator.py", "self._passes[0] + forwards", "self._passes[0] + 1", "tests/test_search.py"),
    Mutant("evaluator.py", "self._passes[1] + backwards", "self._passes[1] + 1", "tests/test_search.py"),
    Mutant("evaluator.py", "        if row is not self._asked:", "        if row is None:", "tests/test_search.py"),
    Mutant(
        "evaluator.py",
        'moved.device.type == "cpu" and bool(moved.all())',
        "True",
        "tests/test_bad_input.py tests/laws tests/test_search.py",
    ),
    Mutant("checks.py", "or count < 1)", "or count < 0)", "tests/test_bad_input.py"),
    Mutant("checks.py", "not isinstance(count, int) or", "", "tests/test_bad_input.py"),
    Mutant("evaluator.py", "output = precise(output)", "pass", "tests/test_search.py"),
    Mutant(
        "evaluator.py",
        "aim = self.y if targeted else None",
        "aim = None",
        "tests/attacks/test_jsma.py tests/laws/test_goal.py",
    ),
    Mutant("evaluator.py", "            threat.check(self.x)", "            pass", "tests/test_bad_input.py"),
    Mutant("evaluator.py", "(values.sum(1) - 1).abs().amax() < 1e-4", "False", "tests/test_bad_input.py"),
    Mutant(
        "evaluator.py",
        "        if exception[0] is None:\n            self._warn",
        "        if False:\n            self._warn",
        "tests/test_bad_input.py",
    ),
    Mutant(
        "checks.py",
        "labels.to(torch.int64, copy=True)",
        "labels",
        "tests/laws/test_geometry.py tests/laws/test_model_untouched.py",
    ),
    Mutant(
        "attacks/fgsm.py",
        "task.threat.maximize(feedback.gradient, task.x)",
        "task.threat.maximize(-feedback.gradient, task.x)",
        "tests/attacks/test_gradient_attacks.py",
    ),
    Mutant(
        "attacks/fgsm.py",
        "task.threat.maximize(feedback.gradient, task.x)",
        "task.threat.project(task.x + 0.1 * feedback.gradient.sign(), task.x)",
        "tests/attacks/test_gradient_attacks.py",
    ),
    Mutant("attacks/fgsm.py", '{"keep": "last", **options}', "{**options}", "tests/attacks/test_gradient_attacks.py"),
    Mutant(
        "attacks/bim.py",
        "state.query + step, task.x)",
        "task.x + step, task.x)",
        "tests/attacks/test_gradient_attacks.py",
    ),
    Mutant(
        "attacks/bim.py",
        "task.threat.project(state.query + step, task.x)",
        "state.query + step",
        "tests/attacks tests/laws/test_geometry.py",
    ),
    Mutant(
        "attacks/bim.py",
        "task.threat.project(state.query + step, task.x)",
        "task.threat.project(state.query - step, task.x)",
        "tests/attacks/test_gradient_attacks.py",
    ),
    Mutant(
        "attacks/bim.py",
        "task.threat.scale(task.x) / steps",
        "task.threat.scale(task.x)",
        "tests/attacks/test_gradient_attacks.py tests/laws/test_goal.py",
    ),
    Mutant(
        "attacks/mim.py",
        "task.threat.project(state.query + step, task.x)",
        "state.query + step",
        "tests/attacks tests/laws/test_geometry.py",
    ),
    Mutant(
        "attacks/mim.py",
        "task.threat.project(state.query + step, task.x)",
        "task.threat.project(state.query - step, task.x)",
        "tests/attacks/test_gradient_attacks.py",
    ),
    Mutant("attacks/mim.py", "self.decay * state.momentum + ", "", "tests/attacks/test_gradient_attacks.py"),
    Mutant(
        "attacks/mim.py",
        "gradient / column(size, gradient)",
        "gradient.sign()",
        "tests/attacks/test_gradient_attacks.py",
    ),
    Mutant("attacks/mim.py", "gradient / column(size, gradient)", "gradient", "tests/attacks/test_gradient_attacks.py"),
    Mutant(
        "attacks/mim.py",
        "gradient = normalized(feedback.gradient)",
        "gradient = feedback.gradient",
        "tests/attacks/test_gradient_attacks.py",
    ),
    Mutant(
        "attacks/mim.py",
        "state.length, momentum)",
        "state.length, state.momentum)",
        "tests/attacks/test_gradient_attacks.py",
    ),
    Mutant(
        "attacks/pgd.py",
        "task.threat.project(moved, task.x)",
        "moved",
        "tests/attacks tests/laws/test_geometry.py",
    ),
    Mutant(
        "attacks/pgd.py",
        "column(length, direction)",
        "-column(length, direction)",
        "tests/attacks/test_gradient_attacks.py",
    ),
    Mutant(
        "attacks/pgd.py",
        "torch.addcmul(state.query,",
        "torch.addcmul(task.x,",
        "tests/attacks/test_gradient_attacks.py",
    ),
    Mutant(
        "attacks/pgd.py",
        "length * (1 + torch.cos(",
        "length * (0.5 + 0.5 * torch.cos(",
        "tests/attacks/test_gradient_attacks.py",
    ),
    Mutant("attacks/pgd.py", ", step + 1", ", step", "tests/attacks/test_gradient_attacks.py"),
    Mutant(
        "attacks/pgd.py", "step + self.step_size", "step + 2 * self.step_size", "tests/attacks/test_gradient_attacks.py"
    ),
    Mutant("attacks/pgd.py", "feedback.gradient, state.query)", "feedback.gradient)", "tests/laws/test_goal.py"),
    Mutant(
        "attacks/pgd.py", "random_start=random_start", "random_start=False", "tests/attacks/test_gradient_attacks.py"
    ),
    Mutant("attacks/pgd.py", "loss=loss", 'loss="cross_entropy"', "tests/attacks/test_gradient_attacks.py"),
    Mutant("attacks/bim.py", "loss=loss", 'loss="cross_entropy"', "tests/attacks/test_gradient_attacks.py"),
    Mutant(
        "attacks/baselines.py", "torch.where(noise.stream(3).uniform(task.x) < 0.5, low, high)", "high", "tests/attacks"
    ),
    Mutant(
        "attacks/baselines.py",
        "torch.where(length > 0, task.threat.scale(task.x) / length, 0)",
        "torch.ones_like(length)",
        "tests/attacks",
    ),
    Mutant(
        "attacks/baselines.py",
        "task.threat.sample(task.x, noise) != task.x",
        "noise.uniform(task.x) < 0.5",
        "tests/attacks",
    ),
    Mutant(
        "attacks/baselines.py",
        "chosen = noise.uniform(task.x) < share",
        "chosen = noise.uniform(task.x) < 0.5",
        "tests/attacks",
    ),
    Mutant("attacks/baselines.py", "    order = 0", "    order = 1", "tests/attacks tests/laws"),
    Mutant(
        "attacks/jsma.py",
        "(-wanted if task.target is None else wanted), logits.sum(1)",
        "wanted, logits.sum(1)",
        "tests/attacks/test_jsma.py",
    ),
    Mutant(
        "attacks/jsma.py",
        "wanted + total if task.target is None else wanted - total",
        "wanted - total",
        "tests/attacks/test_jsma.py",
    ),
    Mutant("attacks/jsma.py", "wanted, others = -wanted, -others", "pass", "tests/attacks/test_jsma.py"),
    Mutant("attacks/jsma.py", "self.theta * (score > 0).unsqueeze(1)", "self.theta", "tests/attacks/test_jsma.py"),
    Mutant("attacks/jsma.py", "torch.clamp(moved, low, high)", "moved", "tests/attacks/test_jsma.py"),
    Mutant(
        "attacks/jsma.py",
        "high - query if self.theta > 0 else query - low",
        "high - query",
        "tests/attacks/test_jsma.py",
    ),
    Mutant("attacks/jsma.py", "_SATURATED = 0.05", "_SATURATED = 0.0", "tests/attacks/test_jsma.py"),
    Mutant("attacks/jsma.py", "domain = (room >", "domain = (room + 9 >", "tests/attacks/test_jsma.py"),
    Mutant(
        "attacks/jsma.py",
        "threat.distance(query, task.x) < 2",
        "threat.distance(query, task.x) < 1",
        "tests/attacks/test_jsma.py",
    ),
    Mutant(
        "attacks/jsma.py",
        "threat.changed(query, task.x).flatten(1) | ~spent",
        "~spent",
        "tests/attacks/test_jsma.py",
    ),
    Mutant("attacks/jsma.py", "state.stuck | (score <= 0)", "state.stuck", "tests/attacks/test_jsma.py"),
    Mutant("attacks/jsma.py", '{"keep": "first", **options}', "{**options}", "tests/attacks/test_jsma.py"),
    Mutant("attacks/jsma.py", "* (x.shape[1] if threat.per_pixel else 1)", "", "tests/attacks/test_jsma.py"),
    Mutant("attacks/jsma.py", "* math.ceil(width / abs(theta) - 1e-9)", "", "tests/attacks/test_jsma.py"),
    Mutant("attacks/apgd.py", "2 * task.threat.scale", "task.threat.scale", "tests/attacks/test_apgd.py"),
    Mutant("attacks/apgd.py", "loss > s.best_loss", "loss < s.best_loss", "tests/attacks/test_apgd.py"),
    Mutant("attacks/apgd.py", "(loss > s.loss)", "(loss >= s.loss)", "tests/attacks/test_apgd.py"),
    Mutant("attacks/apgd.py", "gains < 0.75 * s.period", "gains <= 0.75 * s.period", "tests/attacks/test_apgd.py"),
    Mutant(
        "attacks/apgd.py",
        "(s.kept & (best_loss <= checked_loss))",
        "(best_loss <= checked_loss)",
        "tests/attacks/test_apgd.py",
    ),
    Mutant(
        "attacks/apgd.py",
        "choose(halve, best, s.query), choose(halve, best_gradient",
        "choose(halve, s.query, s.query), choose(halve, best_gradient",
        "tests/attacks/test_apgd.py",
    ),
    Mutant(
        "attacks/apgd.py",
        "choose(halve, best_gradient, feedback.gradient)",
        "feedback.gradient",
        "tests/attacks/test_apgd.py",
    ),
    Mutant(
        "attacks/apgd.py",
        "torch.where(first, 0.0, 0.25)",
        "torch.where(first, 0.25, 0.25)",
        "tests/attacks/test_apgd.py",
    ),
    Mutant("attacks/apgd.py", "zero + self._updates(22)", "zero + self._updates(25)", "tests/attacks/test_apgd.py"),
    Mutant("attacks/apgd.py", "s.period - self._updates(3)", "s.period", "tests/attacks/test_apgd.py"),
    Mutant("attacks/apgd.py", "task.x), point, *progress", "task.x), s.query, *progress", "tests/attacks/test_apgd.py"),
    Mutant("attacks/apgd.py", "changed < 0.95 * s.changed", "changed < 0 * s.changed", "tests/attacks/test_apgd.py"),
    Mutant("attacks/apgd.py", "s.length / 1.5", "s.length", "tests/attacks/test_apgd.py"),
    Mutant("attacks/apgd.py", "changed / 1.5, s.moves", "changed, s.moves", "tests/attacks/test_apgd.py"),
    Mutant("attacks/apgd.py", "movable(ball, gradient, point), moves", "gradient, moves", "tests/attacks/test_apgd.py"),
    Mutant("attacks/apgd.py", "30 * self.steps // 100", "0 * self.steps // 100", "tests/attacks/test_apgd.py"),
    Mutant("attacks/apgd.py", "60 * self.steps // 100", "50 * self.steps // 100", "tests/attacks/test_apgd.py"),
    Mutant(
        "attacks/apgd.py",
        "choose(narrower, best, ahead)",
        "choose(narrower, ahead, ahead)",
        "tests/attacks/test_apgd.py",
    ),
    Mutant(
        "attacks/apgd.py", "choose(narrower, *pair)", "choose(narrower & False, *pair)", "tests/attacks/test_apgd.py"
    ),
    Mutant("attacks/apgd.py", "choose(uniform, far, point)", "point", "tests/attacks/test_apgd.py"),
    Mutant("attacks/apgd.py", "choose(uniform, far, point)", "far", "tests/attacks/test_apgd.py"),
    Mutant("attacks/apgd.py", "numel() / 10", "numel() * 10", "tests/attacks/test_apgd.py"),
    Mutant("attacks/apgd.py", "eps / 10", "eps / 100", "tests/attacks/test_apgd.py"),
    Mutant("attacks/apgd.py", "length = torch.where(sparser, eps, length)", "pass", "tests/attacks/test_apgd.py"),
    Mutant("attacks/apgd.py", "choose(sparser, best, s.query)", "s.query", "tests/attacks/test_apgd.py"),
    Mutant("attacks/apgd.py", "task.threat.project(point, task.x), 2 *", "point, 2 *", "tests/attacks/test_apgd.py"),
    Mutant("attacks/targets.py", "restart % count", "0", "tests/attacks/test_apgd.py"),
    Mutant("attacks/targets.py", "restart < count:", "restart < 1:", "tests/attacks/test_apgd.py"),
    Mutant("attacks/targets.py", "noise._replace(restart=0)", "noise", "tests/attacks/test_apgd.py"),
    Mutant("attacks/targets.py", "found.forwards + evaluator.forwards", "found.forwards", "tests/attacks/test_apgd.py"),
    Mutant("attacks/targets.py", "descending=True", "descending=False", "tests/attacks/test_apgd.py"),
    Mutant("kernels/pairs.py", "(top[:, 0] + beyond) / 2 + rounding", "0", "tests/attacks/test_jsma.py"),
    Mutant("kernels/pairs.py", "(pair.score > 0) & (pair", "(pair", "tests/attacks/test_jsma.py"),
    Mutant(
        "kernels/pairs.py",
        "(a_sum > 0) & (b_sum > 0) & two",
        "two",
        "tests/attacks/test_jsma.py",
    ),
    Mutant(
        "kernels/pairs.py",
        "(a_sum > 0) & (b_sum > 0) & two",
        "(a_sum > 0) & (b_sum > 0)",
        "tests/attacks/test_jsma.py",
    ),
    Mutant("kernels/pairs.py", "front = b > second", "front = b > before", "tests/attacks/test_jsma.py"),
    Mutant("kernels/pairs.py", "& (block.unsqueeze(1) < place)", "", "tests/attacks/test_jsma.py"),
    Mutant(
        "kernels/pairs.py",
        "order[row, index[at]], order[row, index[other]]",
        "index[at], index[other]",
        "tests/attacks/test_jsma.py",
    ),
    Mutant("kernels/pairs.py", "gathered(order, 0)", "gathered(front.long(), 0)", "tests/attacks/test_jsma.py"),
    Mutant(
        "kernels/pairs.py", "values * _inverse(values.amax(1, keepdim=True))", "values", "tests/attacks/test_jsma.py"
    ),
    Mutant("kernels/pairs.py", "max(1, _BLOCK // len(a))", "len(a)", "tests/attacks/test_jsma.py"),
    Mutant("kernels/pairs.py", "        if score > best[2]:", "        if True:", "tests/attacks/test_jsma.py"),
    Mutant("kernels/pairs.py", "torch.addcmul(b * w, a, v)", "a * v", "tests/attacks/test_jsma.py"),
    Mutant(
        "attacks/square.py",
        "if not 0 < self.share <= 1:",
        "if not 0 <= self.share <= 1:",
        "tests/attacks/test_square.py",
    ),
    Mutant(
        "attacks/square.py",
        "if not 0 < self.share <= 1:",
        "if self.share <= 0 or self.share > 1:",
        "tests/attacks/test_square.py",
    ),
    Mutant("attacks/square.py", "if isinstance(task.threat, L0):", "if False:", "tests/attacks/test_square.py"),
    Mutant(
        "attacks/square.py",
        "if bool(torch.isinf(torch.as_tensor(task.threat.eps)).any()):",
        "if False:",
        "tests/attacks/test_square.py",
    ),
    Mutant(
        "attacks/square.py",
        "step - torch.inf, step, chance)",
        "step + torch.inf, step, chance)",
        "tests/attacks/test_square.py",
    ),
    Mutant(
        "attacks/square.py",
        "step - torch.inf, step, chance)",
        "step - torch.inf, step - 1, chance)",
        "tests/attacks/test_square.py",
    ),
    Mutant("attacks/square.py", "if not self.stripes:", "if False:", "tests/attacks/test_square.py"),
    Mutant(
        "attacks/square.py",
        "SquareState(point, first, step + torch.inf",
        "SquareState(first, first, step + torch.inf",
        "tests/attacks/test_square.py",
    ),
    Mutant(
        "attacks/square.py",
        "SquareState(point, first, step + torch.inf",
        "SquareState(point, first, step - torch.inf",
        "tests/attacks/test_square.py",
    ),
    Mutant(
        "attacks/square.py",
        "better = feedback.loss > state.loss",
        "better = feedback.loss >= state.loss",
        "tests/attacks/test_square.py",
    ),
    Mutant(
        "attacks/square.py",
        "better = feedback.loss > state.loss",
        "better = feedback.loss > -torch.inf",
        "tests/attacks/test_square.py",
    ),
    Mutant(
        "attacks/square.py",
        "torch.where(better, feedback.loss, state.loss)",
        "feedback.loss",
        "tests/attacks/test_square.py",
    ),
    Mutant(
        "attacks/square.py",
        "torch.where(opening, -torch.inf, torch.where(",
        "torch.where(opening, 0, torch.where(",
        "tests/attacks/test_square.py",
    ),
    Mutant(
        "attacks/square.py",
        "torch.where(opening, 0, width)",
        "width",
        "tests/attacks/test_square.py",
    ),
    Mutant("attacks/square.py", "odd=not linf", "odd=False", "tests/attacks/test_square.py"),
    Mutant("attacks/square.py", "odd=not linf", "odd=True", "tests/attacks/test_square.py"),
    Mutant("attacks/square.py", "best, loss, state.step + 1", "best, loss, state.step", "tests/attacks/test_square.py"),
    Mutant(
        "attacks/square.py",
        "10_000 * step.unsqueeze(1) >= times",
        "10_000 * step.unsqueeze(1) > times",
        "tests/attacks/test_square.py",
    ),
    Mutant(
        "attacks/square.py",
        "step.new_tensor(_HALVINGS) * self.steps",
        "step.new_tensor(_HALVINGS) * 10_000",
        "tests/attacks/test_square.py",
    ),
    Mutant("attacks/square.py", "self.share * 0.5**halvings", "0.8 * 0.5**halvings", "tests/attacks/test_square.py"),
    Mutant("attacks/square.py", "(6 * task.threat.radius", "(2 * task.threat.radius", "tests/attacks/test_square.py"),
    Mutant("attacks/square.py", "torch.clamp(moved, low, high, out=moved)", "moved", "tests/attacks/test_square.py"),
    Mutant(
        "gradients.py", "draw.normal(x) if gaussian else draw.signs(x)", "draw.signs(x)", "tests/attacks/test_spsa.py"
    ),
    Mutant(
        "gradients.py", "draw.normal(x) if gaussian else draw.signs(x)", "draw.normal(x)", "tests/attacks/test_spsa.py"
    ),
    Mutant("attacks/spsa.py", "if isinstance(task.threat, L0):", "if False:", "tests/attacks/test_spsa.py"),
    Mutant(
        "attacks/spsa.py",
        "length = task.threat.scale(task.x) if",
        "length = 0.3 * task.threat.scale(task.x) if",
        "tests/attacks/test_spsa.py",
    ),
    Mutant("attacks/spsa.py", "step + self.step_size", "step + 0.01", "tests/attacks/test_spsa.py"),
    Mutant("attacks/spsa.py", "torch.lerp(state.mean, gradient, 0.1)", "gradient", "tests/attacks/test_spsa.py"),
    Mutant("attacks/spsa.py", "gradient.square(), 0.001)", "gradient.square(), 0.01)", "tests/attacks/test_spsa.py"),
    Mutant("attacks/spsa.py", "square / column(1 - 0.999**step, square)", "square", "tests/attacks/test_spsa.py"),
    Mutant("attacks/spsa.py", ").sqrt() + 1e-8", ").sqrt()", "tests/attacks/test_spsa.py"),
    Mutant("attacks/spsa.py", "state.length / (1 - 0.9**step)", "state.length", "tests/attacks/test_spsa.py"),
    Mutant(
        "attacks/spsa.py",
        "task.threat.project(state.query + way, task.x)",
        "state.query + way",
        "tests/attacks/test_spsa.py",
    ),
    Mutant("attacks/spsa.py", "mean, square, step)", "mean, square, state.step)", "tests/attacks/test_spsa.py"),
    Mutant(
        "attacks/spsa.py",
        "finite_differences(samples, delta)",
        "finite_differences(samples)",
        "tests/attacks/test_spsa.py",
    ),
    Mutant(
        "attacks/spsa.py",
        "finite_differences(samples, delta)",
        "finite_differences(delta=delta)",
        "tests/attacks/test_spsa.py",
    ),
    Mutant("attacks/spsa.py", '"keep": "first", ', "", "tests/attacks/test_spsa.py"),
    Mutant(
        "attacks/spsa.py",
        'loss: str | Loss = "margin"',
        'loss: str | Loss = "cross_entropy"',
        "tests/attacks/test_spsa.py",
    ),
    Mutant("attacks/spsa.py", "AdamAscent(step_size)", "AdamAscent()", "tests/attacks/test_spsa.py"),
    Mutant("attacks/nes.py", "_STEPS_TO_THE_BORDER = 5", "_STEPS_TO_THE_BORDER = 10", "tests/attacks/test_spsa.py"),
    Mutant(
        "attacks/nes.py",
        "finite_differences(samples, delta, gaussian=True)",
        "finite_differences(samples, delta)",
        "tests/attacks/test_spsa.py",
    ),
    Mutant(
        "attacks/nes.py",
        "finite_differences(samples, delta, gaussian=True)",
        "finite_differences(samples, gaussian=True)",
        "tests/attacks/test_spsa.py",
    ),
    Mutant(
        "attacks/nes.py",
        "finite_differences(samples, delta, gaussian=True)",
        "finite_differences(delta=delta, gaussian=True)",
        "tests/attacks/test_spsa.py",
    ),
    Mutant("attacks/nes.py", '"keep": "first", ', "", "tests/attacks/test_spsa.py"),
    Mutant(
        "attacks/nes.py",
        'loss: str | Loss = "margin"',
        'loss: str | Loss = "cross_entropy"',
        "tests/attacks/test_spsa.py",
    ),
    Mutant("attacks/nes.py", "step_size, decay)", "None, decay)", "tests/attacks/test_spsa.py"),
    Mutant("attacks/nes.py", "step_size, decay)", "step_size, 0.9)", "tests/attacks/test_spsa.py"),
    Mutant("attacks/nes.py", "decay: float = 0.9", "decay: float = 0.0", "tests/attacks/test_spsa.py"),
    Mutant("attacks/simba.py", "if self.basis not in Basis", "if self.basis in Basis", "tests/attacks/test_simba.py"),
    Mutant("attacks/simba.py", "if isinstance(task.threat, L0):", "if False:", "tests/attacks/test_simba.py"),
    Mutant("attacks/simba.py", "keys + _rings(point)", "keys", "tests/attacks/test_simba.py"),
    Mutant("attacks/simba.py", ", torch.ones_like(free)", ", free", "tests/attacks/test_simba.py"),
    Mutant("attacks/simba.py", "torch.where(free, keys, torch.inf)", "keys", "tests/attacks/test_simba.py"),
    Mutant("attacks/simba.py", "free.sum(1).clamp_min(1)", "free.sum(1)", "tests/attacks/test_simba.py"),
    Mutant(
        "attacks/simba.py", "feedback.loss > state.loss", "feedback.loss >= state.loss", "tests/attacks/test_simba.py"
    ),
    Mutant("attacks/simba.py", "choose(better, state.query, state.best)", "state.query", "tests/attacks/test_simba.py"),
    Mutant(
        "attacks/simba.py",
        "torch.where(better, feedback.loss, state.loss)",
        "feedback.loss",
        "tests/attacks/test_simba.py",
    ),
    Mutant(
        "attacks/simba.py",
        "torch.where(better, state.place, state.since)",
        "state.since",
        "tests/attacks/test_simba.py",
    ),
    Mutant("attacks/simba.py", "~better & ~state.last", "~better", "tests/attacks/test_simba.py"),
    Mutant("attacks/simba.py", "~better & ~state.last", "~state.last", "tests/attacks/test_simba.py"),
    Mutant("attacks/simba.py", "state.place + (~again).long()", "state.place + 1", "tests/attacks/test_simba.py"),
    Mutant("attacks/simba.py", "self.step_size * (", "0.2 * (", "tests/attacks/test_simba.py"),
    Mutant("attacks/simba.py", "task.threat.box(task.x)", "task.threat.limits(task.x)", "tests/attacks/test_simba.py"),
    Mutant(
        "attacks/simba.py", "torch.clamp(best + way, low, high) for", "best + way for", "tests/attacks/test_simba.py"
    ),
    Mutant("attacks/simba.py", "2 * up >= down", "up >= down", "tests/attacks/test_simba.py"),
    Mutant("attacks/simba.py", "2 * up >= down", "up > 0", "tests/attacks/test_simba.py"),
    Mutant("attacks/simba.py", ") ^ again, *ways)", "), *ways)", "tests/attacks/test_simba.py"),
    Mutant("attacks/simba.py", "task.threat.project(choose", "(choose", "tests/attacks/test_simba.py"),
    Mutant("attacks/simba.py", "again | (torch.minimum(up, down) == 0)", "again", "tests/attacks/test_simba.py"),
    Mutant(
        "attacks/simba.py",
        "state.place - state.since > state.count",
        "state.place - state.since >= state.count",
        "tests/attacks/test_simba.py",
    ),
    Mutant("attacks/simba.py", "index // columns % lines", "index % lines", "tests/attacks/test_simba.py"),
    Mutant("attacks/simba.py", "index // (lines * columns)", "index % channels", "tests/attacks/test_simba.py"),
    Mutant("attacks/simba.py", "frequency > 0, 2.0, 1.0", "frequency >= 0, 2.0, 1.0", "tests/attacks/test_simba.py"),
    Mutant("attacks/simba.py", ".to(like) + 0.5", ".to(like)", "tests/attacks/test_simba.py"),
    Mutant("attacks/simba.py", "[32 * torch", "[16 * torch", "tests/attacks/test_simba.py"),
    Mutant("attacks/simba.py", "torch.maximum(high[0]", "torch.minimum(high[0]", "tests/attacks/test_simba.py"),
    Mutant("attacks/simba.py", " - 3).clamp_min(0)", " - 4).clamp_min(0)", "tests/attacks/test_simba.py"),
    Mutant("attacks/simba.py", '"keep": "first", ', "", "tests/attacks/test_simba.py"),
    Mutant(
        "attacks/simba.py",
        'loss: str | Loss = "margin"',
        'loss: str | Loss = "cross_entropy"',
        "tests/attacks/test_simba.py",
    ),
    Mutant("attacks/simba.py", 'basis: Basis = "dct"', 'basis: Basis = "pixels"', "tests/attacks/test_simba.py"),
    Mutant(
        "attacks/simba.py",
        "SimpleSearch(step_size, basis)",
        'SimpleSearch(step_size, "dct")',
        "tests/attacks/test_simba.py",
    ),
    Mutant("attacks/sparse_rs.py", "if not 0 < self.share <= 1:", "if False:", "tests/attacks/test_sparse_rs.py"),
    Mutant(
        "attacks/sparse_rs.py", "if not isinstance(task.threat, L0):", "if False:", "tests/attacks/test_sparse_rs.py"
    ),
    Mutant(
        "attacks/sparse_rs.py", "        task.threat.finite_bounds(task.x)\n", "", "tests/attacks/test_sparse_rs.py"
    ),
    Mutant(
        "attacks/sparse_rs.py",
        "(feedback.loss > state.loss) & ~opening",
        "feedback.loss > state.loss",
        "tests/attacks/test_sparse_rs.py",
    ),
    Mutant(
        "attacks/sparse_rs.py",
        "(feedback.loss > state.loss)",
        "(feedback.loss >= state.loss)",
        "tests/attacks/test_sparse_rs.py",
    ),
    Mutant(
        "attacks/sparse_rs.py",
        "choose(better, state.query, state.best)",
        "state.query",
        "tests/attacks/test_sparse_rs.py",
    ),
    Mutant(
        "attacks/sparse_rs.py",
        "torch.where(better.unsqueeze(1), state.proposed, state.chosen)",
        "state.chosen",
        "tests/attacks/test_sparse_rs.py",
    ),
    Mutant(
        "attacks/sparse_rs.py",
        "torch.where(better, feedback.loss, state.loss)",
        "feedback.loss",
        "tests/attacks/test_sparse_rs.py",
    ),
    Mutant("attacks/sparse_rs.py", ".floor().clamp_min(1), most", ".floor(), most", "tests/attacks/test_sparse_rs.py"),
    Mutant(
        "attacks/sparse_rs.py",
        "torch.minimum((self.shares(state.step) * most).floor().clamp_min(1), most)",
        "(self.shares(state.step) * most).floor().clamp_min(1)",
        "tests/attacks/test_sparse_rs.py",
    ),
    Mutant("attacks/sparse_rs.py", ", most) * ~opening", ", most)", "tests/attacks/test_sparse_rs.py"),
    Mutant(
        "attacks/sparse_rs.py",
        "proposed, chosen, state.step + 1",
        "proposed, chosen, state.step",
        "tests/attacks/test_sparse_rs.py",
    ),
    Mutant(
        "attacks/sparse_rs.py",
        "> step.new_tensor(_MOMENTS)",
        ">= step.new_tensor(_MOMENTS)",
        "tests/attacks/test_sparse_rs.py",
    ),
    Mutant("attacks/sparse_rs.py", "_MOMENTS) * self.steps", "_MOMENTS) * 10_000", "tests/attacks/test_sparse_rs.py"),
    Mutant("attacks/sparse_rs.py", "self.share / step", "0.3 / step", "tests/attacks/test_sparse_rs.py"),
    Mutant("attacks/sparse_rs.py", "(low < high).any(1)", "(low < high).all(1)", "tests/attacks/test_sparse_rs.py"),
    Mutant(
        "attacks/sparse_rs.py",
        "tensor_like(task.threat.eps, task.x).floor()",
        "tensor_like(task.threat.eps, task.x)",
        "tests/attacks/test_sparse_rs.py",
    ),
    Mutant("attacks/sparse_rs.py", "torch.where(chosen, key, -1.0)", "key", "tests/attacks/test_sparse_rs.py"),
    Mutant(
        "attacks/sparse_rs.py",
        "torch.where(_free(task) & ~chosen, 1 + other",
        "torch.where(~chosen, 1 + other",
        "tests/attacks/test_sparse_rs.py",
    ),
    Mutant(
        "attacks/sparse_rs.py",
        "torch.where(_free(task) & ~chosen, 1 + other",
        "torch.where(_free(task), 1 + other",
        "tests/attacks/test_sparse_rs.py",
    ),
    Mutant("attacks/sparse_rs.py", "1 + other, torch", "other, torch", "tests/attacks/test_sparse_rs.py"),
    Mutant("attacks/sparse_rs.py", "torch.where(given_up, other, -1.0)", "-1.0", "tests/attacks/test_sparse_rs.py"),
    Mutant("attacks/sparse_rs.py", "torch.where(up ^ same,", "torch.where(up,", "tests/attacks/test_sparse_rs.py"),
    Mutant("attacks/sparse_rs.py", ".all(1, keepdim=True)", ".any(1, keepdim=True)", "tests/attacks/test_sparse_rs.py"),
    Mutant(
        "attacks/sparse_rs.py",
        "torch.where(kept.unsqueeze(1), x.gather(2, wide), point.gather(2, wide))",
        "point.gather(2, wide)",
        "tests/attacks/test_sparse_rs.py",
    ),
    Mutant(
        "attacks/sparse_rs.py",
        "torch.where(kept.unsqueeze(1), x.gather(2, wide), point.gather(2, wide))",
        "x.gather(2, wide)",
        "tests/attacks/test_sparse_rs.py",
    ),
    Mutant(
        "attacks/sparse_rs.py",
        "torch.where(kept.unsqueeze(1), color, point.gather(2, wide))",
        "color",
        "tests/attacks/test_sparse_rs.py",
    ),
    Mutant("attacks/sparse_rs.py", "left = chosen & ~given_up", "left = chosen", "tests/attacks/test_sparse_rs.py"),
    Mutant("attacks/sparse_rs.py", "kept | left.gather(1, index)", "kept", "tests/attacks/test_sparse_rs.py"),
    Mutant("attacks/sparse_rs.py", '"keep": "first", ', "", "tests/attacks/test_sparse_rs.py"),
    Mutant(
        "attacks/sparse_rs.py", "SparseSearch(steps, alpha)", "SparseSearch(steps)", "tests/attacks/test_sparse_rs.py"
    ),
    Mutant("attacks/sparse_patch.py", "_MOVES_EVERY = 5", "_MOVES_EVERY = 4", "tests/attacks/test_sparse_patch.py"),
    Mutant("attacks/sparse_patch.py", "_FARTHEST = 0.75", "_FARTHEST = 0.4", "tests/attacks/test_sparse_patch.py"),
    Mutant("attacks/sparse_patch.py", "_SQUARES = 100", "_SQUARES = 1", "tests/attacks/test_sparse_patch.py"),
    Mutant(
        "attacks/sparse_patch.py",
        "if self.threat.rotation > 0 or self.threat.scale < 1:",
        "if self.threat.rotation > 0:",
        "tests/attacks/test_sparse_patch.py",
    ),
    Mutant(
        "attacks/sparse_patch.py",
        "if self.threat.rotation > 0 or self.threat.scale < 1:",
        "if self.threat.scale < 1:",
        "tests/attacks/test_sparse_patch.py",
    ),
    Mutant(
        "attacks/sparse_patch.py",
        "(feedback.loss > state.loss) & ~opening",
        "feedback.loss > state.loss",
        "tests/attacks/test_sparse_patch.py",
    ),
    Mutant(
        "attacks/sparse_patch.py",
        "(feedback.loss > state.loss)",
        "(feedback.loss >= state.loss)",
        "tests/attacks/test_sparse_patch.py",
    ),
    Mutant(
        "attacks/sparse_patch.py",
        "choose(better, state.painted, state.content)",
        "state.content",
        "tests/attacks/test_sparse_patch.py",
    ),
    Mutant(
        "attacks/sparse_patch.py",
        "choose(better, state.painted, state.content)",
        "state.painted",
        "tests/attacks/test_sparse_patch.py",
    ),
    Mutant(
        "attacks/sparse_patch.py",
        "choose(better, state.moved, state.corner)",
        "state.corner",
        "tests/attacks/test_sparse_patch.py",
    ),
    Mutant(
        "attacks/sparse_patch.py",
        "torch.where(better, feedback.loss, state.loss)",
        "feedback.loss",
        "tests/attacks/test_sparse_patch.py",
    ),
    Mutant("attacks/sparse_patch.py", "& (self.threat.location is None)", "", "tests/attacks/test_sparse_patch.py"),
    Mutant(
        "attacks/sparse_patch.py",
        "choose(moves | opening, content",
        "choose(moves, content",
        "tests/attacks/test_sparse_patch.py",
    ),
    Mutant(
        "attacks/sparse_patch.py",
        "choose(moves | opening, content",
        "choose(opening, content",
        "tests/attacks/test_sparse_patch.py",
    ),
    Mutant("attacks/sparse_patch.py", "(moves & ~opening)", "moves", "tests/attacks/test_sparse_patch.py"),
    Mutant(
        "attacks/sparse_patch.py",
        "SquareSearch(self.steps, self.share)",
        "SquareSearch(self.steps, 0.4)",
        "tests/attacks/test_sparse_patch.py",
    ),
    Mutant(
        "attacks/sparse_patch.py",
        "SquareSearch(self.steps, self.share)",
        "SquareSearch(None, self.share)",
        "tests/attacks/test_sparse_patch.py",
    ),
    Mutant(
        "attacks/sparse_patch.py",
        "painted, moved, state.step + 1",
        "painted, moved, state.step",
        "tests/attacks/test_sparse_patch.py",
    ),
    Mutant(
        "attacks/sparse_patch.py", "torch.where(up ^ same,", "torch.where(up,", "tests/attacks/test_sparse_patch.py"
    ),
    Mutant(
        "attacks/sparse_patch.py",
        ".all(1, keepdim=True)",
        ".any(1, keepdim=True)",
        "tests/attacks/test_sparse_patch.py",
    ),
    Mutant(
        "attacks/sparse_patch.py",
        "span(content.shape[3], width, chance[:, 1])",
        "span(content.shape[3], width, 0 * chance[:, 1])",
        "tests/attacks/test_sparse_patch.py",
    ),
    Mutant(
        "attacks/sparse_patch.py", "(1 - step / self.steps)", "(1 + 0 * step)", "tests/attacks/test_sparse_patch.py"
    ),
    Mutant("attacks/sparse_patch.py", ".floor().clamp_min(1)", ".floor()", "tests/attacks/test_sparse_patch.py"),
    Mutant(
        "attacks/sparse_patch.py",
        "(2 * reach + 1)).floor() - reach",
        "(2 * reach + 1)).floor()",
        "tests/attacks/test_sparse_patch.py",
    ),
    Mutant(
        "attacks/sparse_patch.py",
        "torch.minimum((corner + shift).clamp_min(0), room)",
        "(corner + shift).clamp_min(0)",
        "tests/attacks/test_sparse_patch.py",
    ),
    Mutant(
        "attacks/sparse_patch.py",
        "(corner + shift).clamp_min(0)",
        "(corner + shift)",
        "tests/attacks/test_sparse_patch.py",
    ),
    Mutant("attacks/sparse_rs.py", "threat.check(x)\n        rule", "rule", "tests/attacks/test_sparse_patch.py"),
    Mutant(
        "attacks/sparse_rs.py", "steps, 0.4 if alpha is None else alpha", "steps", "tests/attacks/test_sparse_patch.py"
    ),
    Mutant(
        "attacks/sparse_rs.py", "steps, 0.3 if alpha is None else alpha", "steps", "tests/attacks/test_sparse_rs.py"
    ),
    Mutant(
        "attacks/sparse_rs.py",
        "Linf(math.inf, bounds=threat.bounds)",
        "Linf(math.inf)",
        "tests/attacks/test_sparse_patch.py",
    ),
    Mutant("attacks/square.py", "return (fine + coarse) % 1", "return fine", "tests/attacks/test_square.py"),
    Mutant("attacks/square.py", "return (fine + coarse) % 1", "return coarse", "tests/attacks/test_square.py"),
    Mutant(
        "attacks/square.py",
        "state.chance[row, step % _FINE]",
        "state.chance[0 * row, step % _FINE]",
        "tests/attacks/test_square.py",
    ),
    Mutant("attacks/square.py", "step // _FINE % _COARSE", "step // _FINE", "tests/attacks/test_square.py"),
    Mutant(
        "attacks/square.py",
        "noise.uniform(low[:, :, :1]) < 0.5",
        "noise.uniform(low) < 0.5",
        "tests/attacks/test_square.py",
    ),
    Mutant("attacks/square.py", "(up ^ same).to(", "up.to(", "tests/attacks/test_square.py"),
    Mutant("attacks/square.py", ".all(1, keepdim=True)", ".any(1, keepdim=True)", "tests/attacks/test_square.py"),
    Mutant(
        "attacks/square.py",
        "(down.at(chance[:, 0]) * best.shape[3] + across.at(chance[:, 1]))",
        "(down.at(0 * chance[:, 0]) * best.shape[3] + across.at(0 * chance[:, 1]))",
        "tests/attacks/test_square.py",
    ),
    Mutant(
        "attacks/square.py",
        "torch.addcmul(best, step",
        "torch.addcmul(planes(task.x), step",
        "tests/attacks/test_square.py",
    ),
    Mutant("attacks/square.py", "return 4 if threat.p == 1 else 2", "return 2", "tests/attacks/test_square.py"),
    Mutant(
        "attacks/square.py",
        "torch.where(turned, above, beside) * sign",
        "torch.where(turned, above, beside)",
        "tests/attacks/test_square.py",
    ),
    Mutant(
        "attacks/square.py", "torch.where(turned, above, beside) * sign", "above * sign", "tests/attacks/test_square.py"
    ),
    Mutant("attacks/square.py", " / start.shape[1] ** (1 / p)", "", "tests/attacks/test_square.py"),
    Mutant("attacks/square.py", "unused / x.shape[1]", "unused", "tests/attacks/test_square.py"),
    Mutant(
        "attacks/square.py", "_mass(given, p) + unused / x.shape[1]", "_mass(given, p)", "tests/attacks/test_square.py"
    ),
    Mutant("attacks/square.py", "change * (painted | other)", "change * painted", "tests/attacks/test_square.py"),
    Mutant("attacks/square.py", "old / _length(old, p) + sign", "sign", "tests/attacks/test_square.py"),
    Mutant("attacks/square.py", "old / _length(old, p) + sign", "old + sign", "tests/attacks/test_square.py"),
    Mutant("attacks/square.py", "torch.lerp(best, x, elsewhere)", "best", "tests/attacks/test_square.py"),
    Mutant(
        "attacks/square.py",
        "kept = torch.where(length > radius, radius / length, 1)",
        "kept = torch.ones_like(length)",
        "tests/attacks/test_square.py",
    ),
    Mutant(
        "attacks/square.py",
        "torch.clamp(x + once * (length / _length(once, p)), low, high)",
        "x + once",
        "tests/attacks/test_square.py",
    ),
    Mutant(
        "attacks/square.py",
        "torch.clamp(x + once * (length / _length(once, p)), low, high)",
        "x + once * (length / _length(once, p))",
        "tests/attacks/test_square.py",
    ),
    Mutant("attacks/square.py", '{"keep": "first", **options}', "{**options}", "tests/attacks/test_square.py"),
    Mutant("attacks/square.py", "SquareSearch(steps, p_init)", "SquareSearch(steps)", "tests/attacks/test_square.py"),
    Mutant("attacks/windows.py", "value.shape[-2] if value.ndim > 2 else 1", "1", "tests/attacks/test_square.py"),
    Mutant(
        "attacks/windows.py",
        "(self.offset >= 0) & (self.offset < self.size)",
        "self.offset < self.size",
        "tests/attacks/test_square.py",
    ),
    Mutant("attacks/windows.py", ".floor().minimum(room)", ".floor()", "tests/attacks/test_square.py"),
    Mutant("attacks/windows.py", "(share * (room + 1))", "(share * room)", "tests/attacks/test_square.py"),
    Mutant("attacks/windows.py", ".clamp_max(self.offset.shape[1] - 1)", "", "tests/attacks/test_square.py"),
    Mutant("attacks/windows.py", "area.sqrt().round()", "area.sqrt().floor()", "tests/attacks/test_square.py"),
    Mutant("attacks/windows.py", ".clamp_min(1)", "", "tests/attacks/test_square.py"),
    Mutant("attacks/windows.py", ".clamp_min(3)", "", "tests/attacks/test_square.py"),
    Mutant("attacks/windows.py", "side + 1 - side % 2", "side", "tests/attacks/test_square.py"),
    Mutant("attacks/windows.py", "torch.maximum(side, (area / short).round())", "side", "tests/attacks/test_square.py"),
    Mutant(
        "attacks/windows.py",
        "torch.maximum(side, (area / short).round())",
        "(area / short).round()",
        "tests/attacks/test_square.py",
    ),
    Mutant(
        "attacks/windows.py",
        "return tall.clamp_max(height), wide.clamp_max(width)",
        "return tall, wide",
        "tests/attacks/test_square.py",
    ),
    Mutant(
        "attacks/windows.py",
        "(place - size // 2).abs()",
        "(place - (size - 1) / 2).abs()",
        "tests/attacks/test_square.py",
    ),
    Mutant(
        "attacks/windows.py", "torch.where(second, -1, 1)", "torch.where(second, 1, 1)", "tests/attacks/test_square.py"
    ),
    Mutant(
        "attacks/windows.py", "torch.maximum(below_down", "torch.minimum(below_down", "tests/attacks/test_square.py"
    ),
    Mutant("attacks/windows.py", "across.size) // 2 + 1)", "across.size) // 2)", "tests/attacks/test_square.py"),
    Mutant("attacks/windows.py", "_halved(across, ~split)", "_halved(across, split)", "tests/attacks/test_square.py"),
    Mutant(
        "attacks/windows.py",
        "// 2\n    offset = torch.where",
        "// 1\n    offset = torch.where",
        "tests/attacks/test_square.py",
    ),
    Mutant("attacks/windows.py", "length // 5", "length // 4", "tests/attacks/test_square.py"),
    Mutant("attacks/windows.py", "max(1, length // 5)", "length // 5", "tests/attacks/test_square.py"),
    Mutant(
        "gradients.py",
        '        if "donated" not in str(error):\n            raise\n',
        "        raise\n",
        "tests/laws/test_model_untouched.py",
    ),
    Mutant(
        "gradients.py",
        "retain=i < last) for i, value in enumerate(values))\n    except",
        "retain=False) for i, value in enumerate(values))\n    except",
        "tests/attacks/test_jsma.py",
    ),
    Mutant(
        "defenses/adversarial.py",
        "(1 - adversarial_weight) * functional",
        "functional",
        "tests/defenses/test_loss_functions.py",
    ),
    Mutant(
        "defenses/adversarial.py",
        "eps=noise * threat.eps).sample",
        "eps=threat.eps).sample",
        "tests/defenses/test_objectives.py",
    ),
    Mutant(
        "defenses/adversarial.py",
        "eps=(noise + step_size) * threat.eps",
        "eps=threat.eps",
        "tests/defenses/test_objectives.py",
    ),
    Mutant(
        "defenses/adversarial.py",
        "step_size=step_size * float(threat.eps)",
        "step_size=0.5 * step_size * float(threat.eps)",
        "tests/defenses/test_objectives.py",
    ),
    Mutant("defenses/adversarial.py", "        init=start,\n", "", "tests/defenses/test_objectives.py"),
    Mutant(
        "defenses/adversarial.py", "if self.adversarial_weight == 1:", "if False:", "tests/defenses/test_objectives.py"
    ),
    Mutant(
        "defenses/adversarial.py",
        "y, adversarial_weight=self.adversarial_weight",
        "y, adversarial_weight=1.0",
        "tests/defenses/test_objectives.py",
    ),
    Mutant("defenses/awp.py", "and p.ndim > 1", "", "tests/defenses/test_awp.py"),
    Mutant("defenses/awp.py", "p.requires_grad and p.ndim", "p.ndim", "tests/defenses/test_awp.py"),
    Mutant("defenses/awp.py", "gamma * torch.linalg.vector_norm(weight)", "gamma", "tests/defenses/test_awp.py"),
    Mutant("defenses/awp.py", "weight.add_(", "weight.sub_(", "tests/defenses/test_awp.py"),
    Mutant(
        "defenses/awp.py",
        "torch.enable_grad(), batch_statistics(layers)",
        "torch.enable_grad()",
        "tests/defenses/test_awp.py",
    ),
    Mutant("defenses/awp.py", "with torch.enable_grad(), batch", "with batch", "tests/defenses/test_awp.py"),
    Mutant("defenses/awp.py", " and m.training]", "]", "tests/defenses/test_awp.py"),
    Mutant("defenses/awp.py", " if weights else ()", "", "tests/defenses/test_awp.py"),
    Mutant(
        "defenses/awp.py",
        "        torch.clear_autocast_cache()  # it holds the weights as they were before the move\n",
        "",
        "tests/defenses/test_awp.py",
    ),
    Mutant(
        "defenses/awp.py",
        "                weight.copy_(old)\n        torch.clear_autocast_cache()\n",
        "                weight.copy_(old)\n",
        "tests/defenses/test_awp.py",
    ),
    Mutant(
        "defenses/awp.py",
        "    finally:\n        with torch",
        "    except ZeroDivisionError:\n        pass\n    else:\n        with torch",
        "tests/defenses/test_awp.py",
    ),
    Mutant(
        "defenses/base.py",
        "guard(model), batch_statistics(layers), torch",
        "batch_statistics(layers), torch",
        "tests/defenses/test_laws.py",
    ),
    Mutant(
        "defenses/base.py",
        "batch_statistics(layers), torch.enable_grad()",
        "batch_statistics(layers)",
        "tests/defenses/test_laws.py",
    ),
    Mutant(
        "defenses/base.py",
        "layer.training, layer.track_running_stats = True, False",
        "layer.training, layer.track_running_stats = True, True",
        "tests/defenses/test_laws.py",
    ),
    Mutant(
        "defenses/base.py",
        "layer.training, layer.track_running_stats = training, track",
        "layer.training = training",
        "tests/defenses/test_laws.py",
    ),
    Mutant(
        "defenses/base.py",
        "isinstance(m, _BatchNorm) and m.training]",
        "isinstance(m, _BatchNorm)]",
        "tests/defenses/test_laws.py",
    ),
    Mutant(
        "defenses/base.py",
        "asked, inner = inner, lambda points: asked(points)",
        "asked, inner = inner, inner",
        "tests/defenses/test_laws.py",
    ),
    Mutant(
        "defenses/base.py", "inner: Model = unwrapped(model)", "inner: Model = model", "tests/defenses/test_laws.py"
    ),
    Mutant(
        "defenses/base.py",
        "return attack(inner, x, labels(y)).detach()",
        "return attack(inner, x, y).detach()",
        "tests/defenses",
    ),
    Mutant("defenses/base.py", "needs_threat or home", "home", "tests/test_data.py -k grows"),
    Mutant("defenses/base.py", "needs_threat = needs_threat or home.starts", "home.starts", "tests/defenses"),
    Mutant("zoo.py", "check_attack(attack, needs_threat=True)", "pass", "tests/test_data.py -k grows"),
    Mutant("defenses/base.py", " or len(x) == 0", "", "tests/defenses/test_bad_objectives.py"),
    Mutant(
        "defenses/base.py",
        "if not least <= value <= most",
        "if value < least or value > most",
        "tests/defenses/test_bad_objectives.py",
    ),
    Mutant(
        "defenses/distillation.py",
        "teacher_logits.detach() / temperature",
        "teacher_logits.detach()",
        "tests/defenses/test_loss_functions.py",
    ),
    Mutant(
        "defenses/distillation.py",
        "cross_entropy(student_logits / temperature, target)",
        "cross_entropy(student_logits, target)",
        "tests/defenses/test_loss_functions.py",
    ),
    Mutant(
        "defenses/distillation.py", "teacher_logits.detach()", "teacher_logits", "tests/defenses/test_loss_functions.py"
    ),
    Mutant(
        "defenses/distillation.py",
        "fit(teacher, Standard(temperature))",
        "fit(teacher, Standard())",
        "tests/defenses/test_objectives.py",
    ),
    Mutant("defenses/distillation.py", "return student.eval()", "return student", "tests/defenses/test_objectives.py"),
    Mutant("defenses/distillation.py", "with guard(self.teacher):", "with guard(model):", "tests/defenses"),
    Mutant(
        "defenses/ensemble.py",
        "torch.randint(len(self.sources) + 1, ())",
        "torch.randint(len(self.sources), ())",
        "tests/defenses/test_objectives.py",
    ),
    Mutant(
        "defenses/ensemble.py",
        "if choice == len(self.sources) else self.sources[choice]",
        "if choice == len(self.sources) else self.sources[0]",
        "tests/defenses/test_objectives.py",
    ),
    Mutant("defenses/free.py", "len(delta) < len(x):", "len(delta) != len(x):", "tests/defenses/test_free.py"),
    Mutant(
        "defenses/free.py",
        "delta = threat.project(at + step, x) - x",
        "delta = at + step - x",
        "tests/defenses/test_free.py",
    ),
    Mutant(
        "defenses/free.py",
        "return self.threat.at(x).project(x + delta[: len(x)].to(x), x)",
        "return x + delta[: len(x)].to(x)",
        "tests/defenses/test_free.py",
    ),
    Mutant(
        "defenses/free.py", "threat.project(at + step, x)", "threat.project(x + step, x)", "tests/defenses/test_free.py"
    ),
    Mutant(
        "defenses/free.py",
        "threat.project(at + step, x)",
        "threat.project(at - step, x)",
        "tests/defenses/test_free.py",
    ),
    Mutant("defenses/free.py", "len(carried) > len(x):", "False:", "tests/defenses/test_free.py"),
    Mutant("defenses/free.py", "        self.threat.check(x)\n", "", "tests/defenses/test_laws.py"),
    Mutant("defenses/free.py", "        self._carried.clear()\n", "", "tests/defenses/test_free.py"),
    Mutant(
        "defenses/free.py",
        "nan_to_num(gradient.to(x), nan=0.0)",
        "as_tensor(gradient.to(x))",
        "tests/defenses/test_free.py",
    ),
    Mutant("defenses/mart.py", "1 + _SLACK - rival", "1 - rival", "tests/defenses/test_loss_functions.py"),
    Mutant("defenses/mart.py", ".scatter(1, true, 0)", "", "tests/defenses/test_loss_functions.py"),
    Mutant(
        "defenses/mart.py",
        "doubt = 1 - logits.softmax",
        "doubt = 1 - logits_adv.softmax",
        "tests/defenses/test_loss_functions.py",
    ),
    Mutant(
        "defenses/mart.py",
        "divergence(logits, logits_adv) * doubt",
        "divergence(logits_adv, logits) * doubt",
        "tests/defenses/test_loss_functions.py",
    ),
    Mutant(
        "defenses/pairing.py",
        "logit_pairing_loss(logits, logits_adv), logits",
        "logit_pairing_loss(logits, logits_adv.flip(0)), logits",
        "tests/defenses/test_objectives.py",
    ),
    Mutant(
        "defenses/pairing.py",
        "logit_pairing_loss(logits[:half], logits[half : 2 * half])",
        "logit_pairing_loss(logits[:half], logits[:half])",
        "tests/defenses/test_objectives.py",
    ),
    Mutant("defenses/pairing.py", "if half else logits.sum() * 0", "", "tests/defenses/test_objectives.py"),
    Mutant(
        "defenses/pairing.py",
        "x.detach() + self.noise * torch.randn_like(x)",
        "x.detach() + self.noise * torch.rand_like(x)",
        "tests/defenses/test_objectives.py",
    ),
    Mutant(
        "defenses/pairing.py", "return x.detach() + self.noise", "return x + self.noise", "tests/defenses/test_laws.py"
    ),
    Mutant(
        "defenses/pairing.py",
        "logits.square().mean()",
        "logits.mean().square()",
        "tests/defenses/test_loss_functions.py",
    ),
    Mutant("defenses/standard.py", "logits / self.temperature, y", "logits, y", "tests/defenses/test_objectives.py"),
    Mutant(
        "defenses/standard.py",
        "label_smoothing=self.smoothing",
        "label_smoothing=0.1",
        "tests/defenses/test_objectives.py",
    ),
    Mutant(
        "defenses/standard.py",
        "if not 0 < temperature < float",
        "if not 0 <= temperature < float",
        "tests/defenses/test_bad_objectives.py",
    ),
    Mutant(
        "defenses/trades.py",
        "target, guess = logits.log_softmax(1), logits_adv.log_softmax(1)",
        "guess, target = logits.log_softmax(1), logits_adv.log_softmax(1)",
        "tests/defenses/test_loss_functions.py",
    ),
    Mutant(
        "defenses/trades.py",
        "beta * divergence(logits, logits_adv)",
        "beta * divergence(logits.detach(), logits_adv)",
        "tests/defenses/test_loss_functions.py",
    ),
    Mutant(
        "defenses/trades.py",
        "functional.cross_entropy(logits, y) + beta",
        "functional.cross_entropy(logits_adv, y) + beta",
        "tests/defenses/test_loss_functions.py",
    ),
    Mutant("defenses/trades.py", "with torch.no_grad():", "if True:", "tests/defenses/test_objectives.py"),
    Mutant("defenses/trades.py", ", loss=divergence_from(logits))", ")", "tests/defenses/test_objectives.py"),
    Mutant("defenses/trades.py", "if len(output) != len(logits):", "if False:", "tests/defenses/test_objectives.py"),
    Mutant(
        "defenses/virtual.py",
        "divergence(logits.detach(), logits_adv)",
        "divergence(logits, logits_adv)",
        "tests/defenses/test_virtual.py",
    ),
    Mutant(
        "defenses/virtual.py",
        "ignore_index=UNLABELLED if y.ndim == 1 else -100",
        "ignore_index=-100",
        "tests/defenses/test_virtual.py",
    ),
    Mutant(
        "defenses/virtual.py",
        "if y.ndim == 2 or bool((y != UNLABELLED).any()):",
        "if True:",
        "tests/defenses/test_virtual.py",
    ),
    Mutant(
        "threats/base.py",
        "way = grad.sign() * column(rise, grad).sign()",
        "way = grad.sign()",
        "tests/threats/test_reach.py",
    ),
    Mutant(
        "threats/base.py",
        "size = grad.abs() * space.sign()",
        "size = grad.abs()",
        "tests/threats/test_reach.py",
    ),
    Mutant(
        "threats/base.py",
        "torch.minimum(space, total / magnitude.clamp_min(numbers.tiny))",
        "space",
        "tests/threats/test_reach.py",
    ),
    Mutant(
        "threats/base.py",
        "column((rise.abs() / largest).clamp_max(numbers.max), size)",
        "column(rise.abs() / largest, size)",
        "tests/threats/test_reach.py",
    ),
    Mutant(
        "threats/base.py",
        "size.flatten(1).amax(1).clamp_min(numbers.tiny)",
        "size.flatten(1).amax(1)",
        "tests/threats/test_reach.py",
    ),
    Mutant(
        "threats/base.py",
        "size.flatten(1).amax(1).clamp_min(numbers.tiny)",
        "torch.ones_like(rise)",
        "tests/threats/test_reach.py",
    ),
    Mutant(
        "threats/base.py",
        "return torch.clamp(x_adv + change, low, high)",
        "return x_adv + change",
        "tests/threats/test_reach.py",
    ),
    Mutant(
        "threats/reach.py",
        "torch.where(enough, low, 2 * high)",
        "low",
        "tests/threats/test_reach.py",
    ),
    Mutant(
        "threats/reach.py", "4 * numbers.eps * rise, math.inf", "1e-3 * rise, math.inf", "tests/threats/test_reach.py"
    ),
    Mutant(
        "threats/reach.py",
        "missing > 4 * torch.finfo(gain.dtype).eps * rise",
        "missing > 0",
        "tests/threats/test_reach.py",
    ),
    Mutant("threats/reach.py", "needed & (sorted_gain > 0)", "needed", "tests/threats/test_reach.py"),
    Mutant("threats/reach.py", ".clamp_max(1).to(gain.dtype)", ".to(gain.dtype)", "tests/threats/test_reach.py"),
    Mutant("threats/reach.py", "order.argsort(1, descending=True)", "order.argsort(1)", "tests/threats/test_reach.py"),
    Mutant(
        "threats/l2.py",
        "by_level(flat, flat, limit",
        "by_level(flat, flat.new_ones(()), limit",
        "tests/threats/test_reach.py",
    ),
    Mutant(
        "threats/linf.py",
        "by_level(flat, flat.new_ones(()), limit",
        "by_level(flat, flat, limit",
        "tests/threats/test_reach.py",
    ),
    Mutant(
        "threats/l1.py",
        "by_order(flat, flat * limit,",
        "by_order(flat * limit, flat * limit,",
        "tests/threats/test_reach.py",
    ),
    Mutant(
        "threats/l0.py",
        "shape = (len(capacity), 1, *capacity.shape[2:]) if self.per_pixel else capacity.shape",
        "shape = capacity.shape",
        "tests/threats/test_reach.py",
    ),
    Mutant(
        "attacks/fab.py",
        "part = torch.where(success, self.beta, 1.0).to(lead)",
        "part = torch.ones_like(lead)",
        "tests/attacks/test_fab.py",
    ),
    Mutant(
        "attacks/fab.py", "-torch.lerp(lead_at_x, lead, part), point)", "-lead, point)", "tests/attacks/test_fab.py"
    ),
    Mutant(
        "attacks/fab.py",
        "threat.reach(gradient, -lead_at_x, x)",
        "threat.reach(gradient, -lead, x)",
        "tests/attacks/test_fab.py",
    ),
    Mutant(
        "attacks/fab.py", "share = here / (here + there)", "share = there / (here + there)", "tests/attacks/test_fab.py"
    ),
    Mutant("attacks/fab.py", "share.clamp_max(self.alpha_max)", "share", "tests/attacks/test_fab.py"),
    Mutant("attacks/fab.py", "torch.lerp(point, near, self.eta)", "near", "tests/attacks/test_fab.py"),
    Mutant("attacks/fab.py", "torch.lerp(x, far, self.eta)", "far", "tests/attacks/test_fab.py"),
    Mutant("attacks/fab.py", "torch.clamp(ahead, *threat.limits(x))", "ahead", "tests/attacks/test_fab.py"),
    Mutant("attacks/fab.py", "    wanders = True", "", "tests/attacks/test_fab.py"),
    Mutant("attacks/targets.py", ", self.rule.wanders", ", False", "tests/attacks/test_fab.py"),
    Mutant(
        "attacks/fab.py",
        "def finished(self, state: FABState) -> Tensor:\n        return state.distance == 0",
        "def finished(self, state: FABState) -> Tensor:\n        return state.distance < 0",
        "tests/attacks/test_fab.py",
    ),
    Mutant("attacks/fab.py", "if int(noise.restart) > 0:", "if False:", "tests/attacks/test_fab.py"),
    Mutant("attacks/fab.py", "_FINAL_STEPS = 3", "_FINAL_STEPS = 0", "tests/attacks/test_fab.py"),
    Mutant(
        "attacks/fab.py",
        "self.steps - _FINAL_STEPS) & s.distance.isfinite()",
        "self.steps - _FINAL_STEPS)",
        "tests/attacks/test_fab.py",
    ),
    Mutant(
        "attacks/fab.py", "nearer = success & (length < s.distance)", "nearer = success", "tests/attacks/test_fab.py"
    ),
    Mutant(
        "attacks/fab.py",
        "torch.where(nearer, length, s.distance),",
        "torch.where(success, length, s.distance),",
        "tests/attacks/test_fab.py",
    ),
    Mutant("attacks/fab.py", "torch.where(nearer, lead, s.lead),", "lead,", "tests/attacks/test_fab.py"),
    Mutant(
        "attacks/fab.py", "torch.where(final & ~success, length, s.short),", "s.short,", "tests/attacks/test_fab.py"
    ),
    Mutant(
        "attacks/fab.py",
        "torch.where(final, torch.where(success, s.short_lead, lead), lead_at_x)",
        "lead_at_x",
        "tests/attacks/test_fab.py",
    ),
    Mutant("attacks/fab.py", "torch.where(success, s.short_lead, lead)", "lead", "tests/attacks/test_fab.py"),
    Mutant(
        "attacks/fab.py",
        "crossed = (s.short_lead < 0) & (s.lead > 0)",
        "crossed = s.short_lead < 0",
        "tests/attacks/test_fab.py",
    ),
    Mutant("attacks/fab.py", "1.001 * torch.lerp(s.short, s.distance, zero)", "s.short", "tests/attacks/test_fab.py"),
    Mutant("attacks/fab.py", "1.001 * torch.lerp", "torch.lerp", "tests/attacks/test_fab.py"),
    Mutant(
        "attacks/boundaries.py",
        "ord=DUAL[threat.p]",
        "ord=2.0",
        "tests/attacks/test_fab.py",
    ),
    Mutant(
        "attacks/boundaries.py",
        "(leads.abs() / slope.clamp_min(torch.finfo(slope.dtype).tiny)).argmin(1)",
        "leads.abs().argmin(1)",
        "tests/attacks/test_fab.py",
    ),
    Mutant("attacks/fab.py", '"random_start": True', "", "tests/attacks/test_fab.py"),
    Mutant("attacks/fab.py", 'if options.get("init") is None else options["init"]', "", "tests/attacks/test_fab.py"),
    Mutant("attacks/fab.py", '"keep": "nearest", **options', "**options", "tests/attacks/test_fab.py"),
    Mutant("attacks/fab.py", 'options.get("logits_of") or unchanged', "unchanged", "tests/attacks/test_fab.py"),
    Mutant(
        "attacks/ead.py",
        "feedback.reached & (feedback.loss >= self.confidence)",
        "feedback.reached",
        "tests/attacks/test_ead.py",
    ),
    Mutant("attacks/ead.py", "min(self.step_size, self.beta / 2)", "self.step_size", "tests/attacks/test_ead.py"),
    Mutant("attacks/ead.py", "2 / self.beta * change", "0 * change", "tests/attacks/test_ead.py"),
    Mutant("attacks/ead.py", "column(s.c * ~success, x)", "column(s.c, x)", "tests/attacks/test_ead.py"),
    Mutant("attacks/ead.py", "s.length * (1 - s.step / self.per_round)", "s.length", "tests/attacks/test_ead.py"),
    Mutant("attacks/ead.py", "- torch.clamp(change, -limit, limit)", "", "tests/attacks/test_ead.py"),
    Mutant("attacks/ead.py", "column(s.step / (s.step + 3), x)", "column(0 * s.step, x)", "tests/attacks/test_ead.py"),
    Mutant("attacks/ead.py", "10 * s.c", "2 * s.c", "tests/attacks/test_ead.py"),
    Mutant("attacks/ead.py", "(failed + enough) / 2", "enough", "tests/attacks/test_ead.py"),
    Mutant("attacks/ead.py", "s.length / 2", "s.length", "tests/attacks/test_ead.py"),
    Mutant("attacks/ead.py", " & late", "", "tests/attacks/test_ead.py"),
    Mutant(
        "attacks/ead.py", "feedback.success & (distance < s.distance)", "feedback.success", "tests/attacks/test_ead.py"
    ),
    Mutant("attacks/ead.py", "return state.distance == 0", "return state.distance < 0", "tests/attacks/test_ead.py"),
    Mutant("attacks/ead.py", "    wanders = True", "", "tests/attacks/test_ead.py"),
    Mutant("attacks/ead.py", '"keep": "nearest", **options', "**options", "tests/attacks/test_ead.py"),
    Mutant(
        "attacks/sigma_zero.py",
        "feedback.reached & (feedback.loss >= self.confidence)",
        "feedback.reached",
        "tests/attacks/test_sigma_zero.py",
    ),
    Mutant(
        "attacks/sigma_zero.py", "2 * self.sigma * change", "self.sigma * change", "tests/attacks/test_sigma_zero.py"
    ),
    Mutant("attacks/sigma_zero.py", "+ self.sigma).square()", "+ self.sigma)", "tests/attacks/test_sigma_zero.py"),
    Mutant("attacks/sigma_zero.py", "counted / math.prod(x.shape[1:])", "counted", "tests/attacks/test_sigma_zero.py"),
    Mutant(
        "attacks/sigma_zero.py",
        "column(failed, x) * feedback.gradient * width",
        "feedback.gradient * width",
        "tests/attacks/test_sigma_zero.py",
    ),
    Mutant(
        "attacks/sigma_zero.py", "feedback.gradient * width", "feedback.gradient", "tests/attacks/test_sigma_zero.py"
    ),
    Mutant(
        "attacks/sigma_zero.py",
        "math.pi * s.step / self.steps",
        "math.pi * s.step / 2 / self.steps",
        "tests/attacks/test_sigma_zero.py",
    ),
    Mutant(
        "attacks/sigma_zero.py",
        "self.rate * length * (1 - 2 * failed)",
        "self.rate * (1 - 2 * failed)",
        "tests/attacks/test_sigma_zero.py",
    ),
    Mutant(
        "attacks/sigma_zero.py",
        "(1 - 2 * failed)).clamp_min(0)",
        "(2 * failed - 1)).clamp_min(0)",
        "tests/attacks/test_sigma_zero.py",
    ),
    Mutant(
        "attacks/sigma_zero.py",
        "(1 - 2 * failed)).clamp_min(0)",
        "(1 - 2 * failed))",
        "tests/attacks/test_sigma_zero.py",
    ),
    Mutant(
        "attacks/sigma_zero.py", "(size >= column(threshold, x))", "(size >= 0)", "tests/attacks/test_sigma_zero.py"
    ),
    Mutant("attacks/sigma_zero.py", "s.step + 1", "s.step", "tests/attacks/test_sigma_zero.py"),
    Mutant(
        "attacks/sigma_zero.py",
        'if getattr(task.threat, "per_pixel", False):',
        "if False:",
        "tests/attacks/test_sigma_zero.py",
    ),
    Mutant("attacks/sigma_zero.py", "    wanders = True", "", "tests/attacks/test_sigma_zero.py"),
    Mutant("attacks/sigma_zero.py", '"keep": "nearest", **options', "**options", "tests/attacks/test_sigma_zero.py"),
    Mutant(
        "attacks/sigma_zero.py", "        task.threat.finite_bounds(task.x)\n", "", "tests/attacks/test_sigma_zero.py"
    ),
    Mutant("attacks/sigma_zero.py", "torch.lerp(s.mean, descent, 0.1)", "descent", "tests/attacks/test_sigma_zero.py"),
    Mutant(
        "attacks/sigma_zero.py",
        "torch.lerp(s.square, descent.square(), 0.001)",
        "descent.square()",
        "tests/attacks/test_sigma_zero.py",
    ),
    Mutant("attacks/sigma_zero.py", "column(1 - 0.999**step, x)", "1", "tests/attacks/test_sigma_zero.py"),
    Mutant("attacks/sigma_zero.py", "length / (1 - 0.9**step)", "length", "tests/attacks/test_sigma_zero.py"),
    Mutant("attacks/sigma_zero.py", "_LAST = 0.1", "_LAST = 0.0", "tests/attacks/test_sigma_zero.py"),
    Mutant("attacks/deepfool.py", "-lead / slope", "lead / slope", "tests/attacks/test_deepfool.py"),
    Mutant(
        "attacks/deepfool.py",
        " + self.overshoot * task.threat.distance(s.point, x)",
        "",
        "tests/attacks/test_deepfool.py",
    ),
    Mutant("attacks/deepfool.py", "torch.addcmul(s.point,", "torch.addcmul(s.query,", "tests/attacks/test_deepfool.py"),
    Mutant("attacks/deepfool.py", "1 + self.overshoot)", "1.0)", "tests/attacks/test_deepfool.py"),
    Mutant(
        "attacks/deepfool.py",
        "torch.clamp(torch.lerp(x, point, 1 + self.overshoot), *limits)",
        "torch.lerp(x, point, 1 + self.overshoot)",
        "tests/attacks/test_deepfool.py",
    ),
    Mutant("attacks/deepfool.py", "choose(done, s.query, ahead)", "ahead", "tests/attacks/test_deepfool.py"),
    Mutant(
        "attacks/deepfool.py",
        "state.done | feedback.success",
        "feedback.success & False",
        "tests/attacks/test_deepfool.py",
    ),
    Mutant(
        "attacks/boundaries.py",
        "others if most is None else min(most, others)",
        "logits.shape[1] - 1",
        "tests/attacks/test_deepfool.py",
    ),
    Mutant("attacks/deepfool.py", "    wanders = True", "", "tests/attacks/test_deepfool.py"),
    Mutant("attacks/boundaries.py", "if task.target is not None:", "if False:", "tests/attacks/test_deepfool.py"),
    Mutant("attacks/boundaries.py", ".scatter(1, own, -torch.inf)", "", "tests/attacks/test_deepfool.py"),
    Mutant("attacks/deepfool.py", '"keep": "nearest", **options', "**options", "tests/attacks/test_deepfool.py"),
    Mutant(
        "attacks/deepfool.py",
        'options.get("logits_of") or unchanged',
        "unchanged",
        "tests/attacks/test_deepfool.py",
    ),
    Mutant("attacks/ddn.py", "1 - change, 1 + change", "1 + change, 1 - change", "tests/attacks/test_ddn.py"),
    Mutant("attacks/ddn.py", "self.gamma * length", "self.gamma", "tests/attacks/test_ddn.py"),
    Mutant("attacks/ddn.py", "_LAST_LENGTH = 0.01", "_LAST_LENGTH = 0.0", "tests/attacks/test_ddn.py"),
    Mutant("attacks/ddn.py", "state.step + 1", "state.step", "tests/attacks/test_ddn.py"),
    Mutant(
        "attacks/ddn.py",
        "torch.addcmul(state.query - x, column(length, x), threat",
        "torch.addcmul(state.query - x, 1 + 0 * column(length, x), threat",
        "tests/attacks/test_ddn.py",
    ),
    Mutant("attacks/ddn.py", "state.query - x, column", "0 * x, column", "tests/attacks/test_ddn.py"),
    Mutant(
        "attacks/ddn.py",
        "column(radius, x), threat.steepest(delta)",
        "column(radius, x), delta",
        "tests/attacks/test_ddn.py",
    ),
    Mutant("attacks/ddn.py", "torch.clamp(query, *threat.limits(x))", "query", "tests/attacks/test_ddn.py"),
    Mutant("attacks/ddn.py", "zero + self.eps_init", "zero + 1.0", "tests/attacks/test_ddn.py"),
    Mutant("attacks/ddn.py", "    wanders = True", "", "tests/attacks/test_ddn.py"),
    Mutant("attacks/ddn.py", '"keep": "nearest", **options', "**options", "tests/attacks/test_ddn.py"),
    Mutant("attacks/fmn.py", "(1 + gamma) * (distance + boundary", "(distance + boundary", "tests/attacks/test_fmn.py"),
    Mutant("attacks/fmn.py", "distance + boundary_distance", "boundary_distance", "tests/attacks/test_fmn.py"),
    Mutant(
        "attacks/fmn.py",
        "torch.where(nearest.isinf(), boundary, (1 + gamma) * s.radius)",
        "(1 + gamma) * s.radius",
        "tests/attacks/test_fmn.py",
    ),
    Mutant("attacks/fmn.py", "(1 - gamma) * needed", "s.radius", "tests/attacks/test_fmn.py"),
    Mutant("attacks/fmn.py", "torch.minimum(s.nearest, torch.where", "(torch.where", "tests/attacks/test_fmn.py"),
    Mutant(
        "attacks/fmn.py",
        "torch.where(feedback.success, distance, torch.inf)",
        "distance",
        "tests/attacks/test_fmn.py",
    ),
    Mutant("attacks/fmn.py", "torch.minimum(s.radius, nearest)", "s.radius", "tests/attacks/test_fmn.py"),
    Mutant(
        "attacks/fmn.py",
        "torch.maximum(larger, s.radius + 1)",
        "torch.maximum(larger, s.radius)",
        "tests/attacks/test_fmn.py",
    ),
    Mutant(
        "attacks/fmn.py",
        "(1 - _LAST_LENGTH) * decay) * unit",
        "(1 - _LAST_LENGTH)) * unit",
        "tests/attacks/test_fmn.py",
    ),
    Mutant("attacks/fmn.py", "_LAST_LENGTH = 0.01", "_LAST_LENGTH = 0.0", "tests/attacks/test_fmn.py"),
    Mutant(
        "attacks/fmn.py",
        "(self.gamma - _LAST_GAMMA) * decay",
        "(self.gamma - _LAST_GAMMA)",
        "tests/attacks/test_fmn.py",
    ),
    Mutant(
        "attacks/fmn.py",
        "_EUCLIDEAN.steepest(gradient)",
        "threat.steepest(gradient)",
        "tests/attacks/test_fmn.py",
    ),
    Mutant(
        "attacks/fmn.py",
        "threat.resized(radius).project(moved, x)",
        "torch.clamp(moved, *threat.limits(x))",
        "tests/attacks/test_fmn.py",
    ),
    Mutant("attacks/fmn.py", "column(share.clamp_max(1), x)", "column(share, x)", "tests/attacks/test_fmn.py"),
    Mutant("attacks/fmn.py", "torch.lerp(x, boxed", "torch.lerp(x, moved", "tests/attacks/test_fmn.py"),
    Mutant("attacks/fmn.py", "torch.nan_to_num(torch.where", "(torch.where", "tests/attacks/test_fmn.py"),
    Mutant("attacks/fmn.py", "s.step + 1", "s.step", "tests/attacks/test_fmn.py"),
    Mutant("attacks/fmn.py", "return state.nearest == 0", "return state.nearest < 0", "tests/attacks/test_fmn.py"),
    Mutant("attacks/fmn.py", "feedback.loss.abs()", "feedback.loss", "tests/attacks/test_fmn.py"),
    Mutant(
        "attacks/fmn.py",
        "slope * _width(task)",
        "slope * 100",
        "tests/attacks/test_fmn.py",
    ),
    Mutant("attacks/fmn.py", "    wanders = True", "", "tests/attacks/test_fmn.py"),
    Mutant("attacks/fmn.py", '"keep": "nearest", **options', "**options", "tests/attacks/test_fmn.py"),
    Mutant("attacks/auto_attack.py", "3 if target is None else 4", "3", "tests/attacks/test_auto_attack.py"),
    Mutant("attacks/auto_attack.py", "3 if target is None else 4", "4", "tests/attacks/test_auto_attack.py"),
    Mutant(
        "attacks/auto_attack.py", '"steps": 100, "keep": "first"', '"steps": 100', "tests/attacks/test_auto_attack.py"
    ),
    Mutant(
        "attacks/auto_attack.py",
        '"steps": 100, "keep": "first"',
        '"steps": 50, "keep": "first"',
        "tests/attacks/test_auto_attack.py",
    ),
    Mutant(
        "attacks/auto_attack.py",
        "partial(square, steps=5000)",
        "partial(square, steps=1000)",
        "tests/attacks/test_auto_attack.py",
    ),
    Mutant("attacks/auto_attack.py", "restarts=5 if sparse else 1", "restarts=1", "tests/attacks/test_auto_attack.py"),
    Mutant("attacks/auto_attack.py", "targets=5 if sparse else 9", "targets=9", "tests/attacks/test_auto_attack.py"),
    Mutant(
        "attacks/auto_attack.py", "steps=100, gradient=eot(_PASSES)", "steps=100", "tests/attacks/test_auto_attack.py"
    ),
    Mutant("attacks/auto_attack.py", "_PASSES = 20", "_PASSES = 10", "tests/attacks/test_auto_attack.py"),
    Mutant(
        "attacks/auto_attack.py", "for _ in range(passes)]", "for _ in range(1)]", "tests/attacks/test_auto_attack.py"
    ),
    Mutant(
        "attacks/auto_attack.py",
        "errs = (logits.argmax(1) != y[rows]) & ~logits.isnan().any(1)",
        "errs = logits.argmax(1) != y[rows]",
        "tests/attacks/test_auto_attack.py",
    ),
    Mutant(
        "attacks/auto_attack.py",
        "errs | (reached > best[left])",
        "reached > best[left]",
        "tests/attacks/test_auto_attack.py",
    ),
    Mutant("attacks/auto_attack.py", "errs | (reached > best[left])", "errs", "tests/attacks/test_auto_attack.py"),
    Mutant(
        "attacks/auto_attack.py",
        "x_adv[left[better]], best[left[better]] = found[better], reached[better]",
        "x_adv[left[better]] = found[better]",
        "tests/attacks/test_auto_attack.py",
    ),
    Mutant(
        "attacks/auto_attack.py",
        "        errs, best = judged(x, left)\n        left = left[~errs]\n",
        "        errs, best = judged(x, left)\n",
        "tests/attacks/test_auto_attack.py",
    ),
    Mutant(
        "attacks/auto_attack.py",
        "reached[better]\n            left = left[~errs]\n",
        "reached[better]\n",
        "tests/attacks/test_auto_attack.py",
    ),
    Mutant(
        "attacks/auto_attack.py", "with without_gradient_warnings():", "if True:", "tests/attacks/test_auto_attack.py"
    ),
    Mutant(
        "attacks/auto_attack.py",
        "            evaluator.ask(x_adv[rows], rows)",
        "            pass",
        "tests/attacks/test_auto_attack.py",
    ),
    Mutant(
        "attacks/auto_attack.py",
        "torch.split(left, batch_size or max(len(left), 1))",
        "[left]",
        "tests/attacks/test_auto_attack.py",
    ),
    Mutant(
        "attacks/auto_attack.py",
        "threat.rows(left), batch_size",
        "threat, batch_size",
        "tests/attacks/test_auto_attack.py",
    ),
    Mutant(
        "attacks/auto_attack.py",
        "batch_size=batch_size, generator=own)",
        "batch_size=None, generator=own)",
        "tests/attacks/test_auto_attack.py",
    ),
    Mutant(
        "attacks/auto_attack.py",
        "seen = [[evaluator.ask(points[i], rows[i], order=0)",
        "seen = [[evaluator.ask(points[i], rows[i])",
        "tests/attacks/test_auto_attack.py",
    ),
    Mutant("attacks/auto_attack.py", '_PASSES if version == "rand" else 1', "1", "tests/attacks/test_auto_attack.py"),
    Mutant(
        "attacks/auto_attack.py",
        '"logits_of": logits_of, "batch_size"',
        '"batch_size"',
        "tests/attacks/test_auto_attack.py",
    ),
    Mutant("attacks/auto_attack.py", "if isinstance(threat, L0):", "if False:", "tests/attacks/test_auto_attack.py"),
    Mutant(
        "search.py",
        'if self.keep == "nearest" or self.rule.wanders:',
        'if self.keep == "nearest":',
        "tests/test_search.py",
    ),
    Mutant(
        "search.py",
        "success, loss = success & inside, torch.where(inside, loss, -torch.inf)",
        "success = success & inside",
        "tests/test_search.py",
    ),
    Mutant("search.py", "return torch.clamp(init, *task.threat.limits(task.x))", "return init", "tests/test_search.py"),
    Mutant(
        "search.py",
        "        if self.wanders:\n            return",
        "        if False:\n            return",
        "tests/test_search.py",
    ),
    Mutant(
        "evaluation/rows.py",
        "return slope + (margin(logits, y) - slope).detach()",
        "return slope",
        "tests/evaluation/test_evaluate.py",
    ),
    Mutant(
        "evaluation/rows.py",
        "self.standing = self.correct & ~certified",
        "self.standing = self.correct.clone()",
        "tests/evaluation/test_evaluate.py",
    ),
    Mutant(
        "evaluation/rows.py",
        "if bool((certified & ~self.correct).any()):",
        "if False:",
        "tests/evaluation/test_evaluate.py",
    ),
    Mutant(
        "evaluation/rows.py",
        "return self.standing | (self.correct & self.certified)",
        "return self.standing",
        "tests/evaluation/test_evaluate.py",
    ),
    Mutant("evaluation/rows.py", "rows = self.left(rows)\n        if", "if", "tests/evaluation/test_evaluate.py"),
    Mutant("evaluation/rows.py", "math.ceil(share", "int(share", "tests/evaluation/test_evaluate.py"),
    Mutant(
        "evaluation/rows.py",
        "self.margin[left].topk(",
        "(-self.margin[left]).topk(",
        "tests/evaluation/test_evaluate.py",
    ),
    Mutant(
        "evaluation/rows.py",
        "better = ~success & (loss > self.margin[rows])",
        "better = ~success",
        "tests/evaluation/test_schedule.py",
    ),
    Mutant(
        "evaluation/rows.py",
        "errs = (predicted != self.y[rows])",
        "errs = (predicted == predicted)",
        "tests/evaluation/test_evaluate.py",
    ),
    Mutant(
        "evaluation/rows.py",
        "with guard(self.model), _full_precision(points):",
        "with guard(self.model):",
        "tests/evaluation/test_evaluate.py",
    ),
    Mutant(
        "evaluation/rows.py", "as evaluator, _full_precision(x):", "as evaluator:", "tests/evaluation/test_evaluate.py"
    ),
    Mutant(
        "evaluation/rows.py",
        "self.x_adv[broken], self.standing[broken], self.predicted[broken] = points[errs], False, predicted[errs]",
        "self.standing[broken], self.predicted[broken] = False, predicted[errs]",
        "tests/evaluation/test_evaluate.py",
    ),
    Mutant("evaluation/rows.py", "self.broken_by[row] = stage", "pass", "tests/evaluation/test_evaluate.py"),
    Mutant(
        "evaluation/schedule.py",
        "for index in range(min(plan.classes, classes.shape[1])):",
        "for index in range(1):",
        "tests/evaluation/test_schedule.py",
    ),
    Mutant(
        "evaluation/schedule.py",
        "rows.decide(partial(rows.nearest, share, left))",
        "rows.decide(rows.left)",
        "tests/evaluation/test_schedule.py",
    ),
    Mutant("evaluation/schedule.py", "turn += 1", "pass", "tests/evaluation/test_schedule.py"),
    Mutant("evaluation/schedule.py", "[turn % 2]", "[0]", "tests/evaluation/test_schedule.py"),
    Mutant(
        "evaluation/schedule.py",
        'if loss == "dlr" and rows.logits.shape[1] < 3:',
        "if False:",
        "tests/evaluation/test_schedule.py",
    ),
    Mutant(
        "evaluation/schedule.py", "(apart / rate).argsort(1)", "apart.argsort(1)", "tests/evaluation/test_schedule.py"
    ),
    Mutant(
        "evaluation/schedule.py", "slope = slope - slopes[:, 0]", "slope = slope", "tests/evaluation/test_schedule.py"
    ),
    Mutant(
        "evaluation/schedule.py",
        "return order.masked_fill(far.isinf(), -1)",
        "return order",
        "tests/evaluation/test_schedule.py",
    ),
    Mutant(
        "evaluation/schedule.py",
        "if crossings == 0 or _way_back(rows, rows.decide(lambda: rows.nearest(0.1)), order[:, 0]) == 0:",
        "if crossings == 0:",
        "tests/evaluation/test_schedule.py",
    ),
    Mutant("evaluation/schedule.py", "< 1 / 50:", "< 0:", "tests/evaluation/test_schedule.py"),
    Mutant("evaluation/crossing.py", "wanders = True", "wanders = False", "tests/evaluation/test_schedule.py"),
    Mutant("evaluation/crossing.py", "eps + left * (state.far - eps)", "eps", "tests/evaluation/test_schedule.py"),
    Mutant("evaluation/crossing.py", "(1 - state.step / self.steps)", "1", "tests/evaluation/test_schedule.py"),
    Mutant("evaluation/crossing.py", "ball.project(moved, task.x)", "moved", "tests/evaluation/test_schedule.py"),
    Mutant(
        "evaluation/evaluate.py",
        "if bool(torch.isinf(torch.as_tensor(threat.eps)).any()):",
        "if False:",
        "tests/evaluation/test_evaluate.py",
    ),
    Mutant(
        "evaluation/evaluate.py",
        "threat.aligned(x).rows(torch.arange(start, stop, device=x.device))",
        "threat",
        "tests/evaluation/test_evaluate.py",
    ),
    Mutant(
        "evaluation/evaluate.py",
        "dataclasses.replace(threat, eps=threat.eps[start:stop])",
        "threat",
        "tests/evaluation/test_evaluate.py",
    ),
    Mutant(
        "evaluation/evaluate.py",
        "return certified[start:stop].to(inputs.device)",
        "return certified[: stop - start].to(inputs.device)",
        "tests/evaluation/test_evaluate.py",
    ),
    Mutant(
        "evaluation/evaluate.py",
        "if certified is not None and len(certified) != start:",
        "if False:",
        "tests/evaluation/test_evaluate.py",
    ),
    Mutant(
        "evaluation/evaluate.py",
        "[rest_x[whole:]], [rest_y[whole:]], held - whole",
        "[], [], held - whole",
        "tests/evaluation/test_evaluate.py",
    ),
    Mutant("evaluation/evaluate.py", ", torch.inference_mode(False):", ":", "tests/evaluation/test_evaluate.py"),
    Mutant(
        "evaluation/evaluate.py",
        "bar.update(settled + (0 if rows is None else int((~rows.standing).sum())) - bar.n)",
        "pass",
        "tests/evaluation/test_evaluate.py",
    ),
    Mutant(
        "evaluation/result.py",
        "return max((finding.verdict",
        "return min((finding.verdict",
        "tests/evaluation/test_findings.py",
    ),
    Mutant(
        "evaluation/intervals.py", "confidence_level=0.95", "confidence_level=0.9", "tests/evaluation/test_evaluate.py"
    ),
    Mutant(
        "evaluation/findings.py",
        "sign.value > sign.limit",
        "sign.value >= 0",
        "tests/evaluation/test_findings.py::test_nothing_on_honest_models",
    ),
    Mutant(
        "evaluation/findings.py",
        "rows.correct & ~rows.certified",
        "rows.correct",
        "tests/evaluation/test_findings.py::test_certified_rows_and_errors_are_not_looked_at",
    ),
    Mutant(
        "evaluation/findings.py",
        "rows.correct & ~rows.certified",
        "~rows.certified",
        "tests/evaluation/test_findings.py::test_certified_rows_and_errors_are_not_looked_at",
    ),
    Mutant(
        "evaluation/findings.py",
        "rows[:: max(1, len(rows) // SAMPLE)][:SAMPLE]",
        "rows[:SAMPLE]",
        "tests/evaluation/test_findings.py::test_rows_from_all_over_the_block",
    ),
    Mutant(
        "evaluation/findings.py",
        " if stage.broken >= 3",
        "",
        "tests/evaluation/test_findings.py::test_random_search_may_break_three_percent",
    ),
    Mutant(
        "evaluation/findings.py",
        "stage.broken >= 3",
        "stage.broken >= 4",
        "tests/evaluation/test_findings.py::test_random_search_may_break_three_percent",
    ),
    Mutant(
        "evaluation/findings.py",
        "if share <= 0.03:",
        "if share <= 0.05:",
        "tests/evaluation/test_findings.py::test_random_search_may_break_three_percent",
    ),
    Mutant(
        "evaluation/findings.py",
        '("squares", "trip-wire")',
        '("trip-wire",)',
        "tests/evaluation/test_findings.py::test_random_search_may_break_three_percent",
    ),
    Mutant(
        "evaluation/findings.py",
        '("squares", "trip-wire")',
        '("squares",)',
        "tests/evaluation/test_findings.py::test_random_search_may_break_three_percent",
    ),
    Mutant(
        "evaluation/findings.py",
        "(rows.logits >= 0).all(1) & (",
        "(",
        "tests/evaluation/test_findings.py::test_probabilities",
    ),
    Mutant(
        "evaluation/findings.py",
        " & ((rows.logits.sum(1) - 1).abs() < 1e-4)",
        "",
        "tests/evaluation/test_findings.py::test_probabilities",
    ),
    Mutant(
        "evaluation/findings.py",
        "frame.f_code in codes",
        "frame.f_code.co_name == 'grad'",
        "tests/evaluation/test_findings.py::test_autograd_in_forward_under_any_name",
    ),
    Mutant(
        "evaluation/findings.py",
        "{torch.autograd.grad.__code__, torch.autograd.backward.__code__}",
        "{torch.autograd.backward.__code__}",
        "tests/evaluation/test_findings.py::test_autograd_in_forward_under_any_name",
    ),
    Mutant(
        "evaluation/findings.py",
        "sys.setprofile(before)",
        "sys.setprofile(None)",
        "tests/evaluation/test_findings.py::test_the_profiler_of_the_user_stays",
    ),
    Mutant(
        "evaluation/findings.py",
        "abs().amax(1) / scale",
        "abs().amax(1)",
        "tests/evaluation/test_findings.py::test_randomness",
    ),
    Mutant(
        "evaluation/findings.py",
        "Sign(change, 1e-3,",
        "Sign(change, 1e-2,",
        "tests/evaluation/test_findings.py::test_randomness",
    ),
    Mutant(
        "evaluation/findings.py",
        "Sign(change, 1e-3,",
        "Sign(change, 1e-4,",
        "tests/evaluation/test_findings.py::test_randomness",
    ),
    Mutant(
        "evaluation/findings.py",
        "size, slopes = rows.batch_size or len(points), []",
        "size, slopes = len(points), []",
        "tests/evaluation/test_findings.py::test_no_more_rows_at_once_than_the_user_allows",
    ),
    Mutant(
        "evaluation/findings.py",
        ', "batch_size": rows.batch_size',
        "",
        "tests/evaluation/test_findings.py::test_no_more_rows_at_once_than_the_user_allows",
    ),
    Mutant(
        "evaluation/findings.py",
        "if value.requires_grad:",
        "if True:",
        "tests/evaluation/test_findings.py::test_no_graph_at_all",
    ),
    Mutant(
        "evaluation/findings.py",
        "still = ~flat.isfinite().all(1) | (",
        "still = (",
        "tests/evaluation/test_findings.py::test_vanishing_gradients",
    ),
    Mutant(
        "evaluation/findings.py",
        " | (flat == 0).all(1)",
        "",
        "tests/evaluation/test_findings.py::test_vanishing_gradients",
    ),
    Mutant(
        "evaluation/findings.py",
        "Sign(float(still.double().mean()), 0.05,",
        "Sign(float(still.double().mean()), 0.03,",
        "tests/evaluation/test_findings.py::test_vanishing_gradients",
    ),
    Mutant(
        "evaluation/findings.py",
        "Sign(float(still.double().mean()), 0.05,",
        "Sign(float(still.double().mean()), 0.07,",
        "tests/evaluation/test_findings.py::test_vanishing_gradients",
    ),
    Mutant(
        "evaluation/findings.py",
        " - 1).abs() > 0.5",
        ").abs() > 0.5",
        "tests/evaluation/test_findings.py::test_a_slope_that_bends_within_the_ball_is_not_wrong",
    ),
    Mutant(
        "evaluation/findings.py",
        " - 1).abs() > 0.5",
        " - 1).abs() > -1",
        "tests/evaluation/test_findings.py::test_a_slope_that_bends_within_the_ball_is_not_wrong",
    ),
    Mutant(
        "evaluation/findings.py",
        "wrong &= (kept < 0.25) | (kept > 4)",
        "pass",
        "tests/evaluation/test_findings.py::test_a_stand_in_gradient_is_not_wrong",
    ),
    Mutant("evaluation/findings.py", "(kept < 0.25) | ", "", "tests/evaluation/test_findings.py::test_wrong_gradients"),
    Mutant("evaluation/findings.py", " | (kept > 4)", "", "tests/evaluation/test_findings.py::test_wrong_gradients"),
    Mutant(
        "evaluation/findings.py",
        "(kept < 0.25)",
        "(kept < 0.4)",
        "tests/evaluation/test_findings.py::test_wrong_gradients",
    ),
    Mutant(
        "evaluation/findings.py", "(kept > 4)", "(kept > 2)", "tests/evaluation/test_findings.py::test_wrong_gradients"
    ),
    Mutant(
        "evaluation/findings.py",
        "Sign(float(wrong.double().mean()), 0.2,",
        "Sign(float(wrong.double().mean()), 0.15,",
        "tests/evaluation/test_findings.py::test_wrong_gradients_on_a_fifth_of_the_rows",
    ),
    Mutant(
        "evaluation/findings.py",
        "Sign(float(wrong.double().mean()), 0.2,",
        "Sign(float(wrong.double().mean()), 0.25,",
        "tests/evaluation/test_findings.py::test_wrong_gradients_on_a_fifth_of_the_rows",
    ),
    Mutant(
        "evaluation/findings.py",
        "Sign(lead, 100,",
        "Sign(lead, 105,",
        "tests/evaluation/test_findings.py::test_saturated_cross_entropy_is_no_vanishing_gradient",
    ),
    Mutant(
        "evaluation/findings.py",
        "Sign(lead, 100,",
        "Sign(lead, 95,",
        "tests/evaluation/test_findings.py::test_saturated_cross_entropy_is_no_vanishing_gradient",
    ),
    Mutant(
        "evaluation/findings.py",
        'rows.attack("one step", left, FGSM(), 1)',
        "pass",
        "tests/evaluation/test_findings.py::test_steps_that_break_what_iterations_left",
    ),
    Mutant(
        "evaluation/findings.py",
        "Sign(broken, 1,",
        "Sign(broken, 0,",
        "tests/evaluation/test_findings.py::test_one_row_more_may_be_chance",
    ),
    Mutant(
        "evaluation/findings.py",
        "Sign(broken, 1,",
        "Sign(broken, 2,",
        "tests/evaluation/test_findings.py::test_one_row_more_may_be_chance",
    ),
    Mutant(
        "evaluation/findings.py",
        ", rows.threat.bounds, rows.threat.mask)",
        ", rows.threat.bounds)",
        "tests/evaluation/test_findings.py::test_what_the_mask_forbids_is_no_way_out",
    ),
    Mutant(
        "evaluation/findings.py",
        "within & (rows.logits[other].argmax(1) != rows.y[sample])",
        "within",
        "tests/evaluation/test_findings.py::test_a_tenth_may_stand_in_a_huge_ball",
    ),
    Mutant(
        "evaluation/findings.py",
        "Sign(standing / len(some), 0.1,",
        "Sign(standing / len(some), 0.09,",
        "tests/evaluation/test_findings.py::test_a_tenth_may_stand_in_a_huge_ball",
    ),
    Mutant(
        "evaluation/findings.py",
        "Sign(standing / len(some), 0.1,",
        "Sign(standing / len(some), 0.13,",
        "tests/evaluation/test_findings.py::test_a_tenth_may_stand_in_a_huge_ball",
    ),
    Mutant(
        "evaluation/findings.py",
        "isfinite(), high - low, moves)",
        "isfinite(), high - low, 0 * moves)",
        "tests/evaluation/test_findings.py::test_nothing_on_honest_models",
    ),
    Mutant(
        "evaluation/findings.py",
        "if len(left) < _FEW:",
        "if False:",
        "tests/evaluation/test_findings.py::test_certified_rows_and_errors_are_not_looked_at tests/evaluation/test_findings.py::test_one_row_more_may_be_chance",
    ),
    Mutant(
        "evaluation/findings.py",
        "for steps in (10, 40)",
        "for steps in (10, 10)",
        "tests/evaluation/test_findings.py::test_unconverged",
    ),
    Mutant(
        "evaluation/findings.py",
        ", 0.25, finding)",
        ", 2.5, finding)",
        "tests/evaluation/test_findings.py::test_unconverged",
    ),
    Mutant(
        "evaluation/findings.py",
        ", 0.25, finding)",
        ", -1, finding)",
        "tests/evaluation/test_findings.py::test_unconverged",
    ),
    Mutant("evaluation/report.py", "escape(title)}</h1>", "title}</h1>", "tests/evaluation/test_report.py"),
    Mutant(
        "evaluation/report.py",
        "<code>{escape(result.threat)}</code>, {text}",
        "<code>{result.threat}</code>, {text}",
        "tests/evaluation/test_report.py",
    ),
    Mutant(
        "evaluation/report.py",
        '"an upper bound: a stronger attack may break more"',
        '""',
        "tests/evaluation/test_report.py",
    ),
    Mutant("evaluation/report.py", "doubted if doubts else bound", "bound", "tests/evaluation/test_report.py"),
    Mutant(
        "evaluation/gallery.py",
        "0.5 + factor * (changed - clean)",
        "0.5 + changed - clean",
        "tests/evaluation/test_report.py",
    ),
    Mutant(
        "evaluation/gallery.py",
        "torch.linspace(0, len(broken) - 1, min(_SHOWN, len(broken))).round().long()",
        "slice(0, _SHOWN)",
        "tests/evaluation/test_report.py",
    ),
    Mutant(
        "evaluation/report.py",
        "one.robust & ~other.robust",
        "one.robust & other.robust",
        "tests/evaluation/test_report.py",
    ),
    Mutant("evaluation/report.py", "if not _same_rows(given):", "if False:", "tests/evaluation/test_report.py"),
    Mutant(
        "evaluation/report.py",
        "{name: curves[name]} if name in curves else {}",
        "curves",
        "tests/evaluation/test_report.py",
    ),
    Mutant("evaluation/gallery.py", "max(image.shape) < _SMALL", "True", "tests/evaluation/test_report.py"),
    Mutant(
        "evaluation/figures.py", "(result.samples <= at)", "(result.samples < at)", "tests/evaluation/test_report.py"
    ),
    Mutant("evaluation/figures.py", "text.set_parse_math(False)", "pass", "tests/evaluation/test_report.py"),
    Mutant("evaluation/figures.py", '.replace("xlink:href", "href")', "", "tests/evaluation/test_report.py"),
    Mutant("evaluation/figures.py", 'rf"\\g<1>{prefix}"', 'r"\\g<1>"', "tests/evaluation/test_report.py"),
    Mutant("evaluation/figures.py", 'where="post"', 'where="pre"', "tests/evaluation/test_report.py"),
    Mutant(
        "evaluation/export.py",
        "beside.replace(target)",
        "target.write_bytes(beside.read_bytes())",
        "tests/evaluation/test_report.py",
    ),
    Mutant("evaluation/export.py", "os.path.realpath(path)", "path", "tests/evaluation/test_report.py"),
    Mutant("evaluation/export.py", "        beside.unlink()\n", "        pass\n", "tests/evaluation/test_report.py"),
    Mutant(
        "evaluation/export.py",
        "torch.where(inside.reshape(-1, *[1] * (x.ndim - 1)), nearest, smaller)",
        "nearest",
        "tests/evaluation/test_report.py",
    ),
    Mutant(
        "evaluation/export.py",
        "torch.where(inside.reshape(-1, *[1] * (x.ndim - 1)), nearest, smaller)",
        "smaller",
        "tests/evaluation/test_report.py",
    ),
    Mutant("evaluation/export.py", "change.abs() + 1e-3", "change.abs()", "tests/evaluation/test_report.py"),
    Mutant(
        "evaluation/export.py",
        "(predicted != y) & ~logits.isnan().any(1)",
        "predicted != y",
        "tests/evaluation/test_report.py",
    ),
    Mutant("evaluation/export.py", "threat.aligned(x).rows(broken)", "threat", "tests/evaluation/test_report.py"),
    Mutant("evaluation/export.py", "with guard(model), torch", "with torch", "tests/evaluation/test_report.py"),
    Mutant("evaluation/export.py", "(inside & errs).nonzero()", "errs.nonzero()", "tests/evaluation/test_report.py"),
    Mutant("evaluation/export.py", "torch.split(points, _ASKED)", "[points]", "tests/evaluation/test_report.py"),
    Mutant(
        "evaluation/rows.py", "if self._attack_due <= self.attacks:", "if False:", "tests/evaluation/test_resume.py"
    ),
    Mutant("evaluation/rows.py", "        self.attacks += 1\n", "", "tests/evaluation/test_resume.py"),
    Mutant(
        "evaluation/rows.py",
        "if self._decision_due > len(self.decisions):",
        "if True:",
        "tests/evaluation/test_resume.py",
    ),
    Mutant(
        "evaluation/rows.py", 'self.generator.set_state(state["generator"])', "pass", "tests/evaluation/test_resume.py"
    ),
    Mutant(
        "evaluation/rows.py",
        'self.stages = {stage["name"]: Stage(**stage) for stage in state["stages"]}',
        "pass",
        "tests/evaluation/test_resume.py",
    ),
    Mutant(
        "evaluation/rows.py",
        "self.predicted[broken] = points[errs], False, predicted[errs]",
        "self.predicted[broken] = points[errs], False, self.y[broken]",
        "tests/evaluation/test_evaluate.py",
    ),
    Mutant(
        "evaluation/rows.py",
        "self.distance[broken] = threat.distance(points, x)[errs].double()",
        "pass",
        "tests/evaluation/test_evaluate.py",
    ),
    Mutant(
        "evaluation/rows.py",
        "self.samples[rows] += found.forwards + found.backwards",
        "self.samples[rows] += found.forwards",
        "tests/evaluation/test_evaluate.py",
    ),
    Mutant("evaluation/rows.py", "        self.samples[rows] += 1\n", "", "tests/evaluation/test_evaluate.py"),
    Mutant("evaluation/rows.py", "self.distance[~self.correct] = 0", "pass", "tests/evaluation"),
    Mutant(
        "evaluation/schedule.py",
        "rows.samples[some] += 1 + slopes.shape[1]",
        "pass",
        "tests/evaluation/test_evaluate.py",
    ),
    Mutant(
        "evaluation/schedule.py",
        "left, turn = rows.decide(lambda: len(rows.left())), 0",
        "left, turn = len(rows.left()), 0",
        "tests/evaluation/test_resume.py",
    ),
    Mutant(
        "evaluation/schedule.py",
        "near = rows.decide(partial(rows.nearest, share, left))",
        "near = rows.nearest(share, left)",
        "tests/evaluation/test_resume.py",
    ),
    Mutant(
        "evaluation/schedule.py",
        "near = rows.decide(lambda: rows.nearest(plan.targets))",
        "near = rows.nearest(plan.targets)",
        "tests/evaluation/test_resume.py",
    ),
    Mutant(
        "evaluation/schedule.py",
        "classes = rows.decide(lambda: _nearest_classes(rows, near))",
        "classes = _nearest_classes(rows, near)",
        "tests/evaluation/test_resume.py",
    ),
    Mutant(
        "evaluation/schedule.py",
        "return rows.decide(lambda: 1 - len(rows.left(some)) / max(len(some), 1))",
        "return 1 - len(rows.left(some)) / max(len(some), 1)",
        "tests/evaluation/test_resume.py",
    ),
    Mutant(
        "evaluation/evaluate.py",
        "rows.keep = None  # after a kill, findings are looked for anew",
        "pass",
        "tests/evaluation/test_resume.py",
    ),
    Mutant(
        "evaluation/evaluate.py",
        "if index % ranks != rank:\n                continue",
        "pass",
        "tests/evaluation/test_resume.py",
    ),
    Mutant(
        "evaluation/evaluate.py", "chance = processes.gathered(chance)[0]", "pass", "tests/evaluation/test_resume.py"
    ),
    Mutant("evaluation/evaluate.py", "chance = folder.chance", "pass", "tests/evaluation/test_resume.py"),
    Mutant(
        "evaluation/evaluate.py",
        "done[index] = block if examples else block.without_examples()",
        "done[index] = block",
        "tests/evaluation/test_evaluate.py",
    ),
    Mutant(
        "evaluation/evaluate.py",
        "seed = torch.initial_seed() if generator is None else generator.initial_seed()",
        "seed = 0",
        "tests/evaluation/test_evaluate.py",
    ),
    Mutant(
        "evaluation/blocks.py",
        '("y", "correct", "robust", "predicted", "distance", "samples", "certified")',
        '("y", "correct", "robust", "predicted", "distance", "samples")',
        "tests/evaluation/test_resume.py",
    ),
    Mutant("evaluation/blocks.py", "if given:", "if False:", "tests/evaluation/test_resume.py"),
    Mutant("evaluation/blocks.py", "if known[name] != value:", "if False:", "tests/evaluation/test_resume.py"),
    Mutant("evaluation/blocks.py", 'if found["data"] != data:', "if False:", "tests/evaluation/test_resume.py"),
    Mutant(
        "evaluation/blocks.py",
        'return f"{describe(x)}, {describe(y.cpu())}"',
        "return describe(x)",
        "tests/evaluation/test_resume.py",
    ),
    Mutant(
        "evaluation/blocks.py",
        'return f"{describe(x)}, {describe(y.cpu())}"',
        "return describe(y.cpu())",
        "tests/evaluation/test_resume.py",
    ),
    Mutant(
        "evaluation/blocks.py",
        'self._file(index, "stage").unlink(missing_ok=True)',
        "pass",
        "tests/evaluation/test_resume.py",
    ),
    Mutant("evaluation/blocks.py", "rows.restore(found)", "pass", "tests/evaluation/test_resume.py"),
    Mutant(
        "evaluation/blocks.py",
        'rows.keep = lambda rows: self._write(index, "stage", data, rows.snapshot())',
        "pass",
        "tests/evaluation/test_resume.py",
    ),
    Mutant(
        "evaluation/blocks.py",
        "digest = hashlib.sha256(describe(weights).encode()).hexdigest()[:16]",
        "digest = 0",
        "tests/evaluation/test_resume.py",
    ),
    Mutant(
        "evaluation/blocks.py",
        '" ".join(f"{value:.3g}" for value in shown.tolist())',
        '""',
        "tests/evaluation/test_resume.py",
    ),
    Mutant(
        "evaluation/blocks.py",
        '            return None\n        if found["data"]',
        '            raise\n        if found["data"]',
        "tests/evaluation/test_resume.py",
    ),
    Mutant("inputs.py", "if not math.isfinite(value):", "if False:", "tests/test_inputs.py"),
    Mutant("inputs.py", "_NORMS[norm.lower()]", "_NORMS[norm]", "tests/test_inputs.py"),
    Mutant("inputs.py", 'None if bounds == "none" else tuple', "tuple", "tests/test_inputs.py"),
    Mutant(
        "inputs.py", "yield inputs / 255 if x.dtype == np.uint8 else inputs,", "yield inputs,", "tests/test_inputs.py"
    ),
    Mutant(
        "inputs.py", "                left -= count\n", "                left -= 2 * count\n", "tests/test_inputs.py"
    ),
    Mutant("inputs.py", "count = min(left, _CHUNK)", "count = left", "tests/test_inputs.py"),
    Mutant("inputs.py", "if by_columns and len(shape) > 1:", "if False:", "tests/test_inputs.py"),
    Mutant("inputs.py", "if dtype.hasobject:", "if False:", "tests/test_inputs.py"),
    Mutant("inputs.py", "if len(content) < size:", "if False:", "tests/test_inputs.py"),
    Mutant("inputs.py", 'native.astype(dtype.newbyteorder("="), copy=False)', "native", "tests/test_inputs.py"),
    Mutant(
        "inputs.py",
        'if y_shape != x_shape[:1] or y_type.kind not in "iu":',
        "if y_shape != x_shape[:1]:",
        "tests/test_inputs.py",
    ),
    Mutant(
        "inputs.py",
        'if y_shape != x_shape[:1] or y_type.kind not in "iu":',
        'if y_type.kind not in "iu":',
        "tests/test_inputs.py",
    ),
    Mutant("inputs.py", "if len(x_shape) < 2 or ", "if ", "tests/test_inputs.py"),
    Mutant(
        "inputs.py", "factory if isinstance(factory, nn.Module) else factory()", "factory()", "tests/test_inputs.py"
    ),
    Mutant("inputs.py", "if os.getcwd() not in sys.path:", "if False:", "tests/test_inputs.py"),
    Mutant(
        "inputs.py",
        "            raise  # it is there, and lacks something itself",
        "            pass",
        "tests/test_inputs.py",
    ),
    Mutant("inputs.py", "if not callable(model):", "if False:", "tests/test_inputs.py"),
    Mutant(
        "cli.py",
        "new_figure(1, 1)  # a page needs matplotlib: it is better missed before the work than after",
        "pass",
        "tests/test_cli.py",
    ),
    Mutant("cli.py", "folder = writable(args.out)", "folder = args.out", "tests/test_cli.py"),
    Mutant("cli.py", 'path=folder / "blocks",', "", "tests/test_cli.py"),
    Mutant("cli.py", "return 3 if below else 0", "return 0", "tests/test_cli.py"),
    Mutant("cli.py", "distributed=distributed,", "", "tests/test_cli.py"),
    Mutant(
        "cli.py",
        "generator=torch.Generator().manual_seed(args.seed),",
        "generator=torch.Generator().manual_seed(0),",
        "tests/test_cli.py",
    ),
    Mutant("cli.py", "if not 0 <= share <= 1:", "if False:", "tests/test_cli.py"),
    Mutant("cli.py", "if not distributed or torch.distributed.get_rank() == 0:", "if True:", "tests/test_cli.py"),
    Mutant("cli.py", "names.count(name) == 1", "False", "tests/test_cli.py"),
    Mutant(
        "cli.py",
        'result.save(folder / "report.html", title=args.model, curve=curve)',
        'result.save(folder / "report.html", title=args.model)',
        "tests/test_cli.py",
    ),
    Mutant(
        "evaluation/curves.py",
        "middle = (stands + breaks) // 2",
        "middle = breaks - 1",
        "tests/evaluation/test_curves.py",
    ),
    Mutant("evaluation/curves.py", ".minimum(radius)  #", "  #", "tests/evaluation/test_curves.py"),
    Mutant(
        "evaluation/curves.py",
        "torch.searchsorted(grid, result.distance.cpu()).minimum(radius)",
        "radius",
        "tests/evaluation/test_curves.py",
    ),
    Mutant(
        "evaluation/curves.py",
        "x_adv[rows[broken]] = result.x_adv[broken]",
        "x_adv[rows] = result.x_adv",
        "tests/evaluation/test_curves.py",
    ),
    Mutant("evaluation/curves.py", "if len(further):", "if False:", "tests/evaluation/test_curves.py"),
    Mutant("evaluation/curves.py", "learn(further, middle[further], rows)", "pass", "tests/evaluation/test_curves.py"),
    Mutant("evaluation/curves.py", "stages += rows.stages.values()", "pass", "tests/evaluation/test_curves.py"),
    Mutant(
        "evaluation/curves.py",
        "stages += result.stages",
        "stages += result.stages[:1]",
        "tests/evaluation/test_curves.py",
    ),
    Mutant(
        "evaluation/curves.py", "left = left[breaks[left] > middle[left]]", "pass", "tests/evaluation/test_curves.py"
    ),
    Mutant("evaluation/curves.py", "found if stages else result.findings", "()", "tests/evaluation/test_curves.py"),
    Mutant(
        "evaluation/curves.py",
        "stands[left[result.robust]] = middle[left[result.robust]]",
        "stands[left] = middle[left]",
        "tests/evaluation/test_curves.py",
    ),
    Mutant(
        "evaluation/curves.py",
        "x_adv, threat, left = x.detach().clone(), threat.aligned(x)",
        "x_adv, threat, left = x.detach().clone(), threat",
        "tests/evaluation/test_curves.py",
    ),
    Mutant(
        "evaluation/curves.py",
        "x.detach().clone(), threat.aligned",
        "x.detach(), threat.aligned",
        "tests/evaluation/test_curves.py",
    ),
    Mutant(
        "evaluation/curves.py",
        "(self.broken_at > eps).sum()",
        "(self.broken_at >= eps).sum()",
        "tests/evaluation/test_curves.py",
    ),
    Mutant(
        "evaluation/curves.py",
        "budget=budget,\n                    batch_size=batch_size",
        "batch_size=batch_size",
        "tests/evaluation/test_curves.py",
    ),
    Mutant(
        "evaluation/curves.py",
        "batch_size=batch_size,\n                    generator=generator",
        "generator=generator",
        "tests/evaluation/test_curves.py",
    ),
    Mutant(
        "evaluation/curves.py",
        "generator=generator,\n                    progress",
        "progress",
        "tests/evaluation/test_curves.py",
    ),
    Mutant("evaluation/curves.py", "(0.0, *radii)", "radii", "tests/evaluation/test_curves.py"),
    Mutant("evaluation/curves.py", "later <= radius", "later < radius", "tests/evaluation/test_curves.py"),
    Mutant(
        "evaluation/curves.py", "end * step / _STEPS", "end * (step + 1) / _STEPS", "tests/evaluation/test_curves.py"
    ),
    Mutant(
        "evaluation/curves.py",
        "bar.update(len(x) - len(left) - bar.n)",
        "bar.update(len(x) - len(left))",
        "tests/evaluation/test_curves.py",
    ),
    Mutant(
        "evaluation/tradeoff.py",
        "Fraction(0), max(lines.values())",
        "Fraction(0), max(lines.values(), key=lambda line: line[0])",
        "tests/evaluation/test_tradeoff.py",
    ),
    Mutant(
        "evaluation/tradeoff.py",
        "(_crossing(line, other), -other[1], other)",
        "(_crossing(line, other), other[1], other)",
        "tests/evaluation/test_tradeoff.py",
    ),
    Mutant(
        "evaluation/tradeoff.py",
        "if other[1] > line[1]]",
        "if other[1] >= line[1] and other != line]",
        "tests/evaluation/test_tradeoff.py",
    ),
    Mutant("evaluation/tradeoff.py", "loss / (loss + gain)", "loss / gain", "tests/evaluation/test_tradeoff.py"),
    Mutant("evaluation/tradeoff.py", "if other == line)", "if other == line)[:1]", "tests/evaluation/test_tradeoff.py"),
    Mutant("evaluation/tradeoff.py", "if name not in chosen", "if name in chosen", "tests/evaluation/test_tradeoff.py"),
    Mutant(
        "evaluation/tradeoff.py",
        "(1 - share) * clean + share * robust",
        "share * clean + (1 - share) * robust",
        "tests/evaluation/test_tradeoff.py",
    ),
    Mutant(
        "evaluation/tradeoff.py",
        "if not 0 <= robust <= clean <= 1:",
        "if not 0 <= robust <= 1 >= clean:",
        "tests/evaluation/test_tradeoff.py",
    ),
    Mutant(
        "evaluation/distances.py",
        "least**power * (1 + 1e-5)",
        "least**power * 0.5",
        "tests/evaluation/test_distances.py",
    ),
    Mutant("evaluation/distances.py", "2 if norm.p == 2 else 1", "1", "tests/evaluation/test_distances.py"),
    Mutant(
        "evaluation/distances.py",
        "reach.maximum(part) if math.isinf(norm.p) else",
        "reach + part if math.isinf(norm.p) else",
        "tests/evaluation/test_distances.py",
    ),
    Mutant(
        "evaluation/distances.py",
        "near &= reach <= least",
        "near = reach <= least",
        "tests/evaluation/test_distances.py",
    ),
    Mutant(
        "evaluation/distances.py", "near &= reach == reach[near].amin()", "pass", "tests/evaluation/test_distances.py"
    ),
    Mutant(
        "evaluation/distances.py",
        "x[start : start + chunk], x[start:]",
        "x[start : start + chunk], x[start + 1 :]",
        "tests/evaluation/test_distances.py",
    ),
    Mutant("evaluation/distances.py", "!= y[start:]", ">= y[start:]", "tests/evaluation/test_distances.py"),
    Mutant(
        "evaluation/distances.py",
        "return min(nearest), max(nearest)",
        "return nearest[1], nearest[0]",
        "tests/evaluation/test_distances.py",
    ),
    Mutant(
        "evaluation/distances.py", "place = int(distance.argmin())", "place = 0", "tests/evaluation/test_distances.py"
    ),
    Mutant(
        "evaluation/distances.py",
        "if float(distance[place]) < least:",
        "if True:",
        "tests/evaluation/test_distances.py",
    ),
    Mutant(
        "evaluation/distances.py",
        "two[:1].double(), two[1:].double()",
        "two[:1], two[1:]",
        "tests/evaluation/test_distances.py",
    ),
    Mutant(
        "evaluation/distances.py",
        "Noise(key, index)",
        "Noise(key, index - index[0])",
        "tests/evaluation/test_distances.py",
    ),
    Mutant("evaluation/distances.py", "noisy[first - int(index[0])]", "noisy[0]", "tests/evaluation/test_distances.py"),
    Mutant("evaluation/distances.py", "value / len(x)", "value", "tests/evaluation/test_distances.py"),
    Mutant(
        "evaluation/distances.py",
        "self.noise[norm] > distance",
        "self.noise[norm] < distance",
        "tests/evaluation/test_distances.py",
    ),
    Mutant("evaluation/distances.py", "> (_HELD if seen else 0)", "> 0", "tests/evaluation/test_distances.py"),
    Mutant("evaluation/plotting.py", '"advlib-torch[plot]"', '"advlib-torch"', "tests/evaluation/test_curves.py"),
    Mutant("evaluation/plotting.py", "if not axes.lines:", "if True:", "tests/evaluation/test_curves.py"),
    Mutant("evaluation/curves.py", "10, init=points)", "10)", "tests/evaluation/test_curves.py"),
    Mutant(
        "evaluation/curves.py",
        "ProjectedGradient(10, first=0.5)",
        "ProjectedGradient(10)",
        "tests/evaluation/test_curves.py",
    ),
    Mutant(
        "evaluation/tradeoff.py",
        "return Fraction(share).limit_denominator(10**6)",
        "return Fraction(share)",
        "tests/evaluation/test_tradeoff.py",
    ),
    Mutant("evaluation/tradeoff.py", "{100 * share:.3g} %", "{100 * share:.2g} %", "tests/evaluation/test_tradeoff.py"),
    Mutant("evaluation/distances.py", '["Linf"] / 2)', '["Linf"])', "tests/evaluation/test_distances.py"),
    Mutant("evaluation/distances.py", "ball.check(x)", "pass", "tests/evaluation/test_distances.py"),
    Mutant(
        "evaluation/distances.py",
        "Linf(math.inf if radius is None else radius, bounds)",
        "Linf(math.inf, bounds)",
        "tests/evaluation/test_distances.py",
    ),
    Mutant(
        "evaluation/distances.py",
        "flat.var(0).argsort(descending=True)",
        "flat.var(0).argsort()",
        "tests/evaluation/test_distances.py",
    ),
    Mutant(
        "evaluation/figures.py",
        "axes.step((*passes, end)",
        "axes.step((*passes, max(ends))",
        "tests/evaluation/test_report.py",
    ),
    Mutant(
        "evaluation/export.py",
        "(given := text_of(threat)) != result.threat",
        "False",
        "tests/evaluation/test_report.py",
    ),
    Mutant(
        "evaluation/curves.py",
        "threat = threat_family(math.inf)",
        "threat = threat_family(1.0)",
        "tests/evaluation/test_distance_curve.py",
    ),
    Mutant(
        "evaluation/curves.py",
        'rows.verify("attack", left, found)',
        'rows.verify("attack", rows.left(), rows.x[left])',
        "tests/evaluation/test_distance_curve.py",
    ),
    Mutant(
        "evaluation/curves.py",
        "rows.x[left], rows.y[left], threat.aligned(rows.x).rows(left))",
        "rows.x[left], rows.y[left], threat)",
        "tests/evaluation/test_distance_curve.py",
    ),
    Mutant(
        "evaluation/curves.py",
        "left, counted = rows.left(), Counted(rows.model)\n        if len(left):",
        "left, counted = rows.left(), Counted(rows.model)\n        if True:",
        "tests/evaluation/test_distance_curve.py",
    ),
    Mutant(
        "evaluation/curves.py",
        "    with torch.inference_mode(False):\n        certified",
        "    with torch.inference_mode(torch.is_inference_mode_enabled()):\n        certified",
        "tests/evaluation/test_distance_curve.py",
    ),
    Mutant(
        "evaluation/curves.py",
        "torch.Generator(), batch_size, lambda",
        "torch.Generator(), None, lambda",
        "tests/evaluation/test_distance_curve.py",
    ),
    Mutant(
        "evaluation/curves.py",
        "radii = None if eps is None else _radii(threat, eps)",
        "radii = eps",
        "tests/evaluation/test_distance_curve.py",
    ),
    Mutant(
        "evaluation/curves.py",
        "eps=radii or (_even(end) if end > 0 else (0.0,))",
        "eps=radii or _even(end)",
        "tests/evaluation/test_distance_curve.py",
    ),
    Mutant(
        "evaluation/curves.py",
        "eps=radii or (_even(end) if end > 0 else (0.0,))",
        "eps=_even(end) if end > 0 else (0.0,)",
        "tests/evaluation/test_distance_curve.py",
    ),
    Mutant(
        "evaluation/curves.py",
        "torch.where(rows.distance.isfinite(), rows.distance, 0).amax()",
        "rows.distance.amax()",
        "tests/evaluation/test_distance_curve.py",
    ),
    Mutant(
        "evaluation/curves.py",
        "counted.forwards + sum(stage.forward_samples for stage in stages)",
        "counted.forwards",
        "tests/evaluation/test_distance_curve.py",
    ),
    Mutant(
        "evaluation/curves.py",
        "backward_samples=counted.backwards",
        "backward_samples=0",
        "tests/evaluation/test_distance_curve.py",
    ),
    Mutant(
        "evaluation/curves.py",
        'getattr(getattr(attack, "func", attack), "__name__", type(attack).__name__)',
        "type(attack).__name__",
        "tests/evaluation/test_distance_curve.py",
    ),
    Mutant(
        "evaluation/curves.py",
        'getattr(getattr(attack, "func", attack), "__name__", type(attack).__name__)',
        'getattr(getattr(attack, "func", attack), "__name__", "")',
        "tests/evaluation/test_distance_curve.py",
    ),
    Mutant(
        "evaluation/curves.py",
        "return float(self.broken_at.median())",
        "return float(self.broken_at.mean())",
        "tests/evaluation/test_distance_curve.py",
    ),
    Mutant("evaluation/curves.py", "if len(x) == 0:", "if False:", "tests/evaluation/test_distance_curve.py"),
    Mutant(
        "losses.py",
        "- logits.scatter(1, aim.unsqueeze(1), -torch.inf).logsumexp(1)",
        "- logits.logsumexp(1)",
        "tests/test_losses.py",
    ),
    Mutant(
        "losses.py",
        "aim = logits.scatter(1, y.unsqueeze(1), -torch.inf).argmax(1) if",
        "aim = logits.argmax(1) if",
        "tests/test_losses.py",
    ),
    Mutant(
        "attacks/max_confidence.py",
        '"loss": "log_odds", "steps"',
        '"loss": "cross_entropy", "steps"',
        "tests/attacks/test_max_confidence.py",
    ),
    Mutant(
        "attacks/max_confidence.py",
        "ProjectedGradient(steps, step_size)",
        "ProjectedGradient(steps)",
        "tests/attacks/test_max_confidence.py",
    ),
    Mutant(
        "attacks/max_confidence.py", 'options.get("restarts", 1) > 1', "False", "tests/attacks/test_max_confidence.py"
    ),
    Mutant(
        "attacks/max_confidence.py",
        'x if options.get("init") is None else options["init"], "random_start"',
        'x, "random_start"',
        "tests/attacks/test_max_confidence.py",
    ),
    Mutant(
        "attacks/max_confidence.py",
        '"random_start": True',
        '"random_start": False',
        "tests/attacks/test_max_confidence.py",
    ),
    Mutant(
        "attacks/max_confidence.py",
        'if options.get("targeted") and targets is None:',
        'if options.get("targeted"):',
        "tests/attacks/test_max_confidence.py",
    ),
    Mutant(
        "attacks/max_confidence.py",
        "sys.maxsize if targets is None else targets",
        "sys.maxsize",
        "tests/attacks/test_max_confidence.py",
    ),
    Mutant("attacks/max_confidence.py", 'if "loss" in options:', "if False:", "tests/attacks/test_max_confidence.py"),
    Mutant(
        "transforms/sources.py",
        "noise = noise.stream(max(noise.branch, _STREAM))",
        "noise = noise.stream(_STREAM)",
        "tests/test_transforms.py",
    ),
    Mutant(
        "transforms/sources.py",
        "step=noise.step * len(transforms) + index",
        "step=noise.step + index",
        "tests/test_transforms.py",
    ),
    Mutant("transforms/sources.py", "own.stream(own.branch + DRAWS)", "own", "tests/test_transforms.py"),
    Mutant(
        "transforms/sources.py",
        "with torch.autocast(points.device.type, enabled=False):",
        "if True:",
        "tests/test_transforms.py",
    ),
    Mutant(
        "transforms/sources.py",
        "with torch.autocast(x.device.type, enabled=False):",
        "if True:",
        "tests/test_transforms.py",
    ),
    Mutant(
        "transforms/sources.py",
        "            with torch.no_grad():\n                output, values = ask(x)",
        "            output, values = ask(x.detach().requires_grad_())",
        "tests/test_transforms.py",
    ),
    Mutant(
        "transforms/sources.py",
        "if judge and (transforms[0] is not unchanged or source is not autograd):",
        "if judge and transforms[0] is not unchanged:",
        "tests/attacks/test_transfer_family.py",
    ),
    Mutant(
        "transforms/sources.py",
        "if judge and (transforms[0] is not unchanged or source is not autograd):",
        "if judge:",
        "tests/test_transforms.py",
    ),
    Mutant("transforms/sources.py", "if judge and (", "if (", "tests/attacks/test_transfer_family.py"),
    Mutant(
        "transforms/sources.py",
        "output=output, values=values), forwards + 1",
        "output=output, values=values), forwards",
        "tests/test_transforms.py",
    ),
    Mutant(
        "transforms/sources.py",
        "gradients = _mean(look.gradients for look in seen)",
        "gradients = here.gradients",
        "tests/test_transforms.py",
    ),
    Mutant("transforms/sources.py", "for look in copies)", "for look in seen)", "tests/test_transforms.py"),
    Mutant("transforms/sources.py", "round(max(sides) / 40)", "round(max(sides) / 20)", "tests/test_transforms.py"),
    Mutant("transforms/sources.py", "(3 * apart / reach)", "(apart / reach)", "tests/test_transforms.py"),
    Mutant("transforms/sources.py", " * (apart <= reach)", "", "tests/test_transforms.py"),
    Mutant(
        "transforms/images.py",
        "noise.stream(noise.branch + number)",
        "noise.stream(number)",
        "tests/test_transforms.py",
    ),
    Mutant("transforms/images.py", "x / 2**power", "x / (1 + power)", "tests/test_transforms.py"),
    Mutant("transforms/images.py", "chance < probability", "chance >= probability", "tests/test_transforms.py"),
    Mutant("transforms/images.py", "least + (share * (side - least)).floor()", "least", "tests/test_transforms.py"),
    Mutant(
        "transforms/images.py",
        "(part * (side - size + 1)).floor()",
        "(part * (side - size)).floor()",
        "tests/test_transforms.py",
    ),
    Mutant(
        "transforms/images.py", "(side / size)[:, None] - 0.5", "(side / size)[:, None]", "tests/test_transforms.py"
    ),
    Mutant(
        "transforms/images.py",
        "* ((within >= 0) & (within < size[:, None]))[..., None]",
        "* (within >= 0)[..., None]",
        "tests/test_transforms.py",
    ),
    Mutant("transforms/images.py", "own = y[noise.row]", "own = y[: len(x)]", "tests/test_transforms.py"),
    Mutant(
        "transforms/images.py",
        "(last - first) % len(labels)",
        "(last - first) % (len(labels) + 1)",
        "tests/test_transforms.py",
    ),
    Mutant("transforms/images.py", "pick + alike * (pick >= first)", "pick", "tests/test_transforms.py"),
    Mutant(
        "transforms/images.py",
        "x + sigma * noise.normal(x)",
        "x + sigma * noise.uniform(x)",
        "tests/test_transforms.py",
    ),
    Mutant("transforms/images.py", "1 - rho + 2 * rho", "1 + 2 * rho", "tests/test_transforms.py"),
    Mutant(
        "transforms/blocks.py",
        "ends = (1 + chance).cumsum(-1)",
        "ends = (0.1 + chance).cumsum(-1)",
        "tests/test_transforms.py",
    ),
    Mutant("transforms/blocks.py", "+ moved\n", "\n", "tests/test_transforms.py"),
    Mutant(
        "transforms/blocks.py",
        "part.gather(1, strip), column.gather(1, strip)",
        "part.gather(1, strip), column.gather(1, 0 * strip)",
        "tests/test_transforms.py",
    ),
    Mutant(
        "transforms/blocks.py",
        "cosine * down - sine * across",
        "cosine * down + sine * across",
        "tests/test_transforms.py",
    ),
    Mutant("transforms/blocks.py", " * inside[:, None]", "", "tests/test_transforms.py"),
    Mutant(
        "transforms/blocks.py", "y, z = y.clamp(top, bottom), z.clamp(left, right)", "pass", "tests/test_transforms.py"
    ),
    Mutant(
        "transforms/blocks.py",
        "(2 * draw(noise, 2, x, blocks, blocks) - 1)",
        "draw(noise, 2, x, blocks, blocks)",
        "tests/test_transforms.py",
    ),
    Mutant(
        "transforms/blocks.py",
        "moved + radius * (2 * chance - 1)",
        "moved + radius * chance",
        "tests/test_transforms.py",
    ),
    Mutant(
        "transforms/blocks.py", "moved * (chance >= 0.1) / 0.9", "moved * (chance >= 0.1)", "tests/test_transforms.py"
    ),
    Mutant("transforms/blocks.py", "int(0.8 * side) + 1", "int(0.8 * side)", "tests/test_transforms.py"),
    Mutant("transforms/blocks.py", "side - int(0.4 * side)", "side - int(0.6 * side)", "tests/test_transforms.py"),
    Mutant("transforms/blocks.py", "* shifted\n", "\n", "tests/test_transforms.py"),
    Mutant("transforms/blocks.py", "first + last - place", "last - place", "tests/test_transforms.py"),
    Mutant(
        "attacks/mim.py",
        "choose(step < self.steps, ",
        "choose(step <= self.steps, ",
        "tests/attacks/test_transfer_family.py",
    ),
    Mutant(
        "attacks/mim.py",
        "self._moved(here, self.decay, state",
        "self._moved(here, 1.0, state",
        "tests/attacks/test_transfer_family.py",
    ),
    Mutant(
        "attacks/mim.py",
        "self._moved(state.position, 1.0, state",
        "self._moved(state.query, 1.0, state",
        "tests/attacks/test_transfer_family.py",
    ),
    Mutant(
        "attacks/transfer_family.py",
        "gradients=(here + state.variance,)",
        "gradients=(here,)",
        "tests/attacks/test_transfer_family.py",
    ),
    Mutant(
        "attacks/transfer_family.py",
        "gradients=(here + state.variance,)",
        "gradients=(near,)",
        "tests/attacks/test_transfer_family.py",
    ),
    Mutant(
        "attacks/transfer_family.py",
        "tuned, task, noise), near - here)",
        "tuned, task, noise), near)",
        "tests/attacks/test_transfer_family.py",
    ),
    Mutant(
        "attacks/transfer_family.py", "replace(threat, bounds=None)", "threat", "tests/attacks/test_transfer_family.py"
    ),
    Mutant(
        "attacks/transfer_family.py",
        ".aligned(x).rows(noise.row)",
        ".aligned(x)",
        "tests/attacks/test_transfer_family.py",
    ),
    Mutant(
        "attacks/transfer_family.py", "near.resized(beta * near.eps)", "near", "tests/attacks/test_transfer_family.py"
    ),
    Mutant(
        "attacks/transfer_family.py",
        "VarianceTuned, nesterov)",
        "VarianceTuned)",
        "tests/attacks/test_transfer_family.py",
    ),
    Mutant(
        "attacks/transfer_family.py",
        'judge=self.options.get("keep", "last") != "last"',
        "judge=True",
        "tests/attacks/test_transfer_family.py",
    ),
    Mutant(
        "attacks/transfer_family.py",
        'judge=self.options.get("keep", "last") != "last"',
        "judge=False",
        "tests/attacks/test_transfer_family.py",
    ),
    Mutant(
        "attacks/transfer_family.py",
        '"keep": "last", **self.options}',
        "**self.options}",
        "tests/attacks/test_transfer_family.py",
    ),
    Mutant(
        "attacks/transfer_family.py",
        'settings.pop("decay"), nesterov)',
        'settings.pop("decay"), False)',
        "tests/attacks/test_transfer_family.py",
    ),
    Mutant(
        "attacks/transfer_family.py",
        'self.options.get("gradient", autograd)',
        "autograd",
        "tests/attacks/test_transfer_family.py",
    ),
    Mutant(
        "attacks/transfer_family.py",
        "call.run(call.over(scales(copies)), nesterov=True)",
        "call.run(call.over(scales(copies)))",
        "tests/attacks/test_transfer_family.py",
    ),
    Mutant(
        "attacks/transfer_copies.py",
        "(x, y) if others is None else others",
        "(x, y)",
        "tests/attacks/test_transfer_family.py",
    ),
    Mutant(
        "attacks/transfer_copies.py", "* mixed, call.source", ", call.source", "tests/attacks/test_transfer_family.py"
    ),
    Mutant(
        "attacks/transfer_copies.py",
        "[spectrum(sigma, rho)] * copies",
        "[spectrum(rho, sigma)] * copies",
        "tests/attacks/test_transfer_family.py",
    ),
    Mutant(
        "attacks/transfer_copies.py",
        "block_shuffle(blocks, angle)",
        "block_shuffle(blocks)",
        "tests/attacks/test_transfer_family.py",
    ),
    Mutant(
        "attacks/transfer_copies.py",
        "block_structure(blocks, radius)",
        "block_structure(blocks)",
        "tests/attacks/test_transfer_family.py",
    ),
    Mutant(
        "evaluation/transfer.py",
        "(self.fooled & self.standing).double()",
        "self.fooled.double()",
        "tests/evaluation/test_transfer.py",
    ),
    Mutant(
        "evaluation/transfer.py",
        "said == y if targeted else said != y",
        "said != y",
        "tests/evaluation/test_transfer.py",
    ),
    Mutant(
        "evaluation/transfer.py", '{"targeted": True} if targeted else {}', "{}", "tests/evaluation/test_transfer.py"
    ),
    Mutant(
        "evaluation/transfer.py",
        "if not bool(threat.contains(x_adv[-1], x).all()):",
        "if False:",
        "tests/evaluation/test_transfer.py",
    ),
    Mutant("evaluation/transfer.py", "with guard(target):", "if True:", "tests/evaluation/test_transfer.py"),
    Mutant(
        "evaluation/transfer.py",
        "attack(source, x, y",
        "attack(sources[next(iter(sources))], x, y",
        "tests/evaluation/test_transfer.py",
    ),
    Mutant("training/substitute.py", "(-step if turned else step)", "step", "tests/training/test_substitute.py"),
    Mutant(
        "training/substitute.py", "number // period % 2 == 1", "number % 2 == 1", "tests/training/test_substitute.py"
    ),
    Mutant(
        "training/substitute.py", 'getattr(oracle, "left", math.inf)', "math.inf", "tests/training/test_substitute.py"
    ),
    Mutant(
        "training/substitute.py",
        "math.inf if reservoir is None else reservoir",
        "math.inf",
        "tests/training/test_substitute.py",
    ),
    Mutant(
        "training/substitute.py",
        "torch.randperm(len(x), generator=chance)",
        "torch.arange(len(x))",
        "tests/training/test_substitute.py",
    ),
    Mutant(
        "training/substitute.py", "-_gradient(substitute", "_gradient(substitute", "tests/training/test_substitute.py"
    ),
    Mutant("training/substitute.py", "new = new.clamp(*bounds)", "pass", "tests/training/test_substitute.py"),
    Mutant(
        "training/substitute.py",
        "torch.cat([y, _classes(oracle, new)])",
        "torch.cat([y, y[chosen]])",
        "tests/training/test_substitute.py",
    ),
    Mutant(
        "training/substitute.py",
        "generator=chance).to(x) - 1",
        "generator=chance)[:, :1].to(x) - 1",
        "tests/training/test_substitute.py",
    ),
    Mutant(
        "training/substitute.py",
        "number == rounds or most < 1",
        "number == rounds",
        "tests/training/test_substitute.py",
    ),
    Mutant(
        "training/substitute.py", "shuffle=True, generator=chance", "shuffle=True", "tests/training/test_substitute.py"
    ),
    Mutant("training/substitute.py", "objective or Standard()", "Standard()", "tests/training/test_substitute.py"),
    Mutant("models.py", "return logits.transpose(0, 1)", "return logits.mean(0)", "tests/test_models.py"),
    Mutant(
        "losses.py",
        "for logits in output.unbind(1)]).mean(0)",
        "for logits in output.unbind(1)]).sum(0)",
        "tests/test_models.py",
    ),
    Mutant(
        "threats/images.py",
        "(_power_of_two(side - 1) for side",
        "(side - 1 + (side == 1) for side",
        "tests/threats/test_transformations.py",
    ),
    Mutant(
        "threats/images.py",
        "functional.pad(images, (0, width + 1 - images.shape[3], 0, height + 1 - images.shape[2]))",
        "functional.pad(images, (width + 1 - images.shape[3], 0, height + 1 - images.shape[2], 0))",
        "tests/threats/test_transformations.py",
    ),
    Mutant(
        "threats/images.py", 'padding_mode="zeros"', 'padding_mode="border"', "tests/threats/test_transformations.py"
    ),
    Mutant(
        "threats/images.py",
        "cos * down + sin * across, cos * across - sin * down",
        "cos * down - sin * across, cos * across + sin * down",
        "tests/threats/test_transformations.py",
    ),
    Mutant(
        "threats/images.py",
        "angle.double() * (math.pi / 180)",
        "angle.double()",
        "tests/threats/test_transformations.py",
    ),
    Mutant(
        "threats/images.py",
        '    if isinstance(value, bool) or not isinstance(value, int | float):\n        raise TypeError(f"{name} must be a number of',
        '    if not isinstance(value, int | float):\n        raise TypeError(f"{name} must be a number of',
        "tests/threats/test_transformations.py",
    ),
    Mutant(
        "threats/images.py",
        "if not 0 <= value <= largest:",
        "if value < 0 or value > largest:",
        "tests/threats/test_transformations.py",
    ),
    Mutant(
        "threats/images.py",
        "-math.inf < bounds[0] < bounds[1] < math.inf",
        "bounds[0] < bounds[1]",
        "tests/threats/test_transformations.py",
    ),
    Mutant("threats/images.py", "if x.ndim != 4:", "if x.ndim < 2:", "tests/threats/test_transformations.py"),
    Mutant(
        "threats/motions.py",
        "self.translation >= min(x.shape[2:])",
        "self.translation >= max(x.shape[2:])",
        "tests/threats/test_transformations.py",
    ),
    Mutant(
        "threats/motions.py",
        "self.translation >= min(x.shape[2:])",
        "self.translation > min(x.shape[2:])",
        "tests/threats/test_transformations.py",
    ),
    Mutant(
        "threats/motions.py",
        "at - (mid + by.view(-1, 1, 1))",
        "at - (mid - by.view(-1, 1, 1))",
        "tests/threats/test_transformations.py",
    ),
    Mutant(
        "threats/motions.py", "(side - 1) / 2 for side", "side / 2 for side", "tests/threats/test_transformations.py"
    ),
    Mutant(
        "threats/motions.py",
        "return self.rotation, self.translation, self.translation",
        "return self.rotation, self.translation, self.rotation",
        "tests/attacks/test_spatial.py",
    ),
    Mutant(
        "threats/patches.py",
        "first + side for first, side",
        "side for first, side",
        "tests/threats/test_transformations.py",
    ),
    Mutant(
        "threats/patches.py",
        "(part * (room + 1)).floor().clamp_max(room)",
        "(part * room).round()",
        "tests/threats/test_transformations.py",
    ),
    Mutant("threats/patches.py", ".floor().clamp_max(room)", ".floor()", "tests/threats/test_transformations.py"),
    Mutant(
        "threats/patches.py",
        "        if self.location is not None:\n            places = [torch.full_like(place, at)",
        "        if False:\n            places = [torch.full_like(place, at)",
        "tests/threats/test_transformations.py",
    ),
    Mutant(
        "threats/patches.py",
        "self.scale + (1 - self.scale) * share[:, 3]",
        "self.scale + (1 - self.scale) * unit[:, 3]",
        "tests/threats/test_transformations.py",
    ),
    Mutant(
        "threats/patches.py",
        "self.rotation * unit[:, 2]",
        "self.rotation * share[:, 2]",
        "tests/threats/test_transformations.py",
    ),
    Mutant(
        "threats/patches.py",
        "2 * noise.uniform(x.new_empty(len(x), 4)) - 1)",
        "noise.uniform(x.new_empty(len(x), 4)))",
        "tests/threats/test_transformations.py",
    ),
    Mutant(
        "threats/patches.py",
        "(at / scale.view(-1, 1, 1) for at in turned",
        "(at * scale.view(-1, 1, 1) for at in turned",
        "tests/threats/test_transformations.py",
    ),
    Mutant(
        "threats/patches.py",
        "turned((far[0], far[1]), angle)",
        "turned((far[0], far[1]), 0 * angle)",
        "tests/threats/test_transformations.py",
    ),
    Mutant(
        "threats/patches.py",
        "(down.abs() <= half[0] + 0.5) & (across",
        "(down.abs() <= half[0]) & (across",
        "tests/threats/test_transformations.py",
    ),
    Mutant(
        "threats/patches.py",
        "(across.abs() <= half[1] + 0.5)",
        "(across.abs() <= half[0] + 0.5)",
        "tests/threats/test_transformations.py",
    ),
    Mutant(
        "threats/patches.py",
        "(down.clamp(-half[0], half[0]) + half[0], across.clamp(-half[1], half[1]) + half[1])",
        "(down + half[0], across + half[1])",
        "tests/threats/test_transformations.py",
    ),
    Mutant("threats/patches.py", "looked_up.clamp(*self.bounds)", "looked_up", "tests/threats/test_transformations.py"),
    Mutant("threats/patches.py", "patch.to(x).expand", "patch.expand", "tests/threats/test_transformations.py"),
    Mutant(
        "threats/patches.py",
        "changed = (x_adv != x).any(1)",
        "changed = (x_adv != x)[:, 0]",
        "tests/threats/test_transformations.py",
    ),
    Mutant(
        "threats/patches.py",
        "fits = ((x_adv >= self.bounds[0]) & (x_adv <= self.bounds[1])).flatten(1).all(1)",
        "fits = (x_adv == x_adv).flatten(1).all(1)",
        "tests/threats/test_transformations.py",
    ),
    Mutant(
        "threats/patches.py",
        "self.sides[::-1], self.location",
        "self.sides, self.location",
        "tests/threats/test_transformations.py",
    ),
    Mutant(
        "threats/patches.py",
        "widest - min(widest, math.radians(self.rotation))",
        "0",
        "tests/threats/test_transformations.py",
    ),
    Mutant(
        "threats/patches.py",
        "widest - min(widest, math.radians(self.rotation))",
        "widest - math.radians(self.rotation)",
        "tests/threats/test_transformations.py",
    ),
    Mutant(
        "threats/patches.py",
        "(int(long) + 1 if self.rotation else side)",
        "side",
        "tests/threats/test_transformations.py",
    ),
    Mutant("threats/patches.py", "fits = fits & (span <=", "fits = (span <=", "tests/threats/test_transformations.py"),
    Mutant(
        "threats/patches.py", "fits = fits & ~(lines & beyond).any(1)", "pass", "tests/threats/test_transformations.py"
    ),
    Mutant("threats/patches.py", "if self.scale == 0:", "if False:", "tests/threats/test_transformations.py"),
    Mutant(
        "threats/patches.py",
        "all(type(value) is int for value in pair)",
        "all(isinstance(value, int | float) for value in pair)",
        "tests/threats/test_transformations.py",
    ),
    Mutant(
        "threats/patches.py", "if min(pair) < least:", "if max(pair) < least:", "tests/threats/test_transformations.py"
    ),
    Mutant("threats/patches.py", "        check_within(x, self.bounds)\n", "", "tests/threats/test_transformations.py"),
    Mutant(
        "threats/negatives.py",
        "torch.clamp(low + high - x, low, high)",
        "low + high - x",
        "tests/attacks/test_negative.py",
    ),
    Mutant("threats/negatives.py", "low + high - x", "1 - x", "tests/threats/test_transformations.py"),
    Mutant("threats/negatives.py", "return same | turned", "return turned", "tests/threats/test_transformations.py"),
    Mutant(
        "threats/negatives.py",
        ".flatten(1).all(1) for point",
        ".flatten(1).any(1) for point",
        "tests/threats/test_transformations.py",
    ),
    Mutant(
        "evaluator.py",
        'if hasattr(threat, "attack") else "wrap the radius"',
        'if False else "wrap the radius"',
        "tests/laws/test_beyond_balls.py::test_attacks_on_balls_say_which_attack_it_is",
    ),
    Mutant(
        "attacks/transformed.py",
        "self.x = x.clone() if x.is_inference() else x.detach()",
        "self.x = x.detach()",
        "tests/laws/test_beyond_balls.py::test_works_where_gradients_are_off",
    ),
    Mutant(
        "attacks/transformed.py",
        "self.model, self.transform = unwrapped(model), transform",
        "self.__dict__.update(model=unwrapped(model), transform=transform)",
        "tests/laws/test_beyond_balls.py::test_modules_only_are_put_into_evaluation",
    ),
    Mutant(
        "attacks/transformed.py", "points[:, 0].round().long()", "points[:, 0].long()", "tests/attacks/test_spatial.py"
    ),
    Mutant(
        "attacks/transformed.py",
        "self.x[points[:, 0].round().long()]",
        "self.x[: len(points)]",
        "tests/attacks/test_spatial.py",
    ),
    Mutant(
        "attacks/transformed.py",
        "        with torch.inference_mode(False), torch.no_grad():\n            return self._inputs(points)",
        "        return self._inputs(points)",
        "tests/laws/test_beyond_balls.py::test_works_where_gradients_are_off",
    ),
    Mutant(
        "attacks/transformed.py",
        'if options.pop("init", None) is not None:',
        'if options.pop("init", None) is True:',
        "tests/laws/test_beyond_balls.py::test_other_threat_models_are_refused",
    ),
    Mutant(
        "attacks/transformed.py",
        "Linf(1.0, bounds=(torch.cat([index, -ones]",
        "Linf(1.0, bounds=(torch.cat([index, 0 * ones]",
        "tests/attacks/test_spatial.py",
    ),
    Mutant("attacks/spatial.py", "and count > 0 and count % 2", "and count > 0", "tests/attacks/test_spatial.py"),
    Mutant("attacks/spatial.py", "and count > 0 and", "and", "tests/attacks/test_spatial.py"),
    Mutant("attacks/spatial.py", "descending=True", "descending=False", "tests/attacks/test_spatial.py"),
    Mutant("attacks/spatial.py", "order[: max(len(points) - 1, 1)]", "order", "tests/attacks/test_spatial.py"),
    Mutant(
        "attacks/spatial.py",
        "order[: max(len(points) - 1, 1)]",
        "order[: len(points) - 1]",
        "tests/attacks/test_spatial.py",
    ),
    Mutant("attacks/spatial.py", "state.step + 1)", "state.step + 2)", "tests/attacks/test_spatial.py"),
    Mutant("attacks/spatial.py", "[count if limit else 1 for", "[count for", "tests/attacks/test_spatial.py"),
    Mutant("attacks/spatial.py", "(limit * part for", "(part for", "tests/attacks/test_spatial.py"),
    Mutant(
        "attacks/spatial.py",
        '{"keep": "first", "loss": loss, **options}',
        '{"keep": "strongest", "loss": loss, **options}',
        "tests/attacks/test_spatial.py",
    ),
    Mutant(
        "attacks/spatial.py",
        '{"keep": "first", "loss": loss, **options}',
        '{"keep": "first", **options}',
        "tests/attacks/test_spatial.py::test_the_gradient_leads_to_the_farthest_shift",
    ),
    Mutant("attacks/spatial.py", '{"random_start": True, **settings}', "settings", "tests/attacks/test_spatial.py"),
    Mutant(
        "attacks/spatial.py",
        "rule, settings = ProjectedGradient(steps)",
        "rule, settings = ProjectedGradient(1)",
        "tests/attacks/test_spatial.py",
    ),
    Mutant("attacks/spatial.py", "    threat.check(x)\n", "", "tests/attacks/test_spatial.py"),
    Mutant("attacks/patch.py", "int(noise.restart) % self.places.shape[1]", "0", "tests/attacks/test_patch.py"),
    Mutant("attacks/patch.py", "if self.places is not None:", "if False:", "tests/attacks/test_patch.py"),
    Mutant(
        "attacks/patch.py",
        "self.places[task.row, ",
        "self.places[: len(task.row), ",
        "tests/laws/test_beyond_balls.py::test_rows_do_not_depend_on_one_another",
    ),
    Mutant("attacks/patch.py", "(unit + 1) / 2)  # which", "unit)  # which", "tests/attacks/test_patch.py"),
    Mutant("attacks/patch.py", "score - taken * lower", "score - 0 * lower", "tests/attacks/test_patch.py"),
    Mutant("attacks/patch.py", "<= side // 2", "<= 0", "tests/attacks/test_patch.py"),
    Mutant("attacks/patch.py", "(2 * at + 1) / space - 1", "2 * at / space - 1", "tests/attacks/test_patch.py"),
    Mutant(
        "attacks/patch.py",
        '"restarts": 10, "keep": "first"',
        '"restarts": 10, "keep": "strongest"',
        "tests/attacks/test_patch.py",
    ),
    Mutant(
        "attacks/patch.py",
        '    settings["generator"] = own\n',
        "",
        "tests/laws/test_beyond_balls.py::test_the_generator_decides_and_without_one_the_global_gives_one_key",
    ),
    Mutant(
        "attacks/patch.py",
        "choose(wrong, moved.x, found.x_adv)",
        "found.x_adv",
        "tests/attacks/test_patch.py::test_a_row_that_is_wrong_without_a_patch_comes_back_as_it_was",
    ),
    Mutant("attacks/patch.py", "choose(wrong, moved.x", "choose(~wrong, moved.x", "tests/attacks/test_patch.py"),
    Mutant(
        "attacks/patch.py",
        'if places == "ranked" and threat.location is None:',
        "if False:",
        "tests/attacks/test_patch.py",
    ),
    Mutant(
        "attacks/patch.py",
        "            return x.clone()\n",
        "            pass\n",
        "tests/laws/test_beyond_balls.py::test_empty_batch_and_one_row",
    ),
    Mutant(
        "attacks/patch.py",
        "    with torch.inference_mode(False):\n        return choose",
        "    if True:\n        return choose",
        "tests/laws/test_beyond_balls.py::test_works_where_gradients_are_off",
    ),
    Mutant(
        "attacks/patch.py",
        '"random_start": True, "restarts"',
        '"random_start": False, "restarts"',
        "tests/attacks/test_patch.py",
    ),
    Mutant(
        "attacks/patch.py",
        "PatchSearch(steps, step_size, places=ranking)",
        "PatchSearch(steps, places=ranking)",
        "tests/attacks/test_patch.py",
    ),
    Mutant(
        "attacks/patch.py",
        "with without_gradient_warnings(), Evaluator(model, x, y, inside, **goal)",
        "with Evaluator(model, x, y, inside, **goal)",
        "tests/laws/test_beyond_balls.py::test_without_gradients_a_warning_and_a_valid_result",
    ),
    Mutant(
        "attacks/patch.py",
        "goal = {name: settings[name] for name in _GOAL if name in settings}",
        "goal = {}",
        "tests/attacks/test_patch.py",
    ),
    Mutant(
        "attacks/patch.py",
        "torch.maximum(gradient * (high - x), gradient * (low - x))",
        "(gradient * (high - x)).clamp_min(0)",
        "tests/attacks/test_patch.py",
    ),
    Mutant("attacks/patch.py", "x + _BLUR * (high - low) * noise.normal(x)", "x", "tests/attacks/test_patch.py"),
    Mutant(
        "attacks/patch.py",
        "torch.clamp(x + _BLUR * (high - low) * noise.normal(x), low, high)",
        "x + _BLUR * (high - low) * noise.normal(x)",
        "tests/attacks/test_patch.py",
    ),
    Mutant(
        "attacks/patch.py",
        "Noise(evaluator.key, rows, step=look)",
        "Noise(evaluator.key, torch.arange(len(rows)), step=look)",
        "tests/laws/test_beyond_balls.py::test_rows_do_not_depend_on_one_another",
    ),
    Mutant(
        "attacks/patch.py",
        "_FIRST / 2 * (1 + math.cos(math.pi * step / steps))",
        "_FIRST",
        "tests/attacks/test_patch.py",
    ),
    Mutant(
        "attacks/patch.py",
        "torch.clamp(content + length * slope.sign(), -1, 1)",
        "content + length * slope.sign()",
        "tests/attacks/test_patch.py",
    ),
    Mutant(
        "attacks/patch.py",
        "content + length * slope.sign()",
        "content - length * slope.sign()",
        "tests/attacks/test_patch.py",
    ),
    Mutant("attacks/patch.py", ".sum(0)\n", ".sign().sum(0)\n", "tests/attacks/test_patch.py"),
    Mutant("attacks/patch.py", "device=x.device), step=step)", "device=x.device))", "tests/attacks/test_patch.py"),
    Mutant(
        "attacks/patch.py",
        "x.new_empty(len(x), _PLACEMENT)) - 1",
        "x.new_empty(len(x), _PLACEMENT))",
        "tests/attacks/test_patch.py",
    ),
    Mutant(
        "attacks/patch.py", "y if target is None else torch.full_like(y, target)", "y", "tests/attacks/test_patch.py"
    ),
    Mutant("attacks/patch.py", "targeted=target is not None", "targeted=False", "tests/attacks/test_patch.py"),
    Mutant(
        "attacks/patch.py",
        "seen = seen or bool(slope.any())",
        "seen = True",
        "tests/laws/test_beyond_balls.py::test_a_universal_patch_without_gradients_warns_once",
    ),
    Mutant("attacks/patch.py", "seen = seen or bool(slope.any())", "seen = False", "tests/attacks/test_patch.py"),
    Mutant("attacks/patch.py", "            empty = False\n", "", "tests/attacks/test_patch.py"),
    Mutant("attacks/patch.py", "        if empty:\n", "        if False:\n", "tests/attacks/test_patch.py"),
    Mutant(
        "attacks/patch.py",
        "yield (x, y) if parameter is None else (x.to(parameter.device), y.to(parameter.device))",
        "yield (x, y) if parameter is None else (x.to('meta'), y)",
        "tests/attacks/test_patch.py",
    ),
    Mutant(
        "attacks/patch.py",
        '    check_counts(restarts=options.get("restarts"), batch_size=options.get("batch_size"))\n',
        "",
        "tests/attacks/test_patch.py",
    ),
    Mutant(
        "attacks/negative.py",
        '{"keep": "first", **options}',
        '{"keep": "strongest", **options}',
        "tests/attacks/test_negative.py",
    ),
    Mutant(
        "attacks/negative.py",
        "NegativeState(self.threat.apply(task.x))",
        "NegativeState(task.x)",
        "tests/attacks/test_negative.py",
    ),
    Mutant(
        "attacks/negative.py",
        'if options.get("init") is not None:',
        "if False:",
        "tests/laws/test_beyond_balls.py::test_other_threat_models_are_refused",
    ),
    Mutant("attacks/negative.py", "bounds=threat.bounds", "bounds=None", "tests/attacks/test_negative.py"),
    Mutant("attacks/patch.py", "% self.places.shape[1]", "", "tests/attacks/test_patch.py"),
    Mutant(
        "attacks/patch.py",
        "lower = 1 + score.flatten(1).amax(1).view(-1, 1, 1)",
        "lower = 1e-6",
        "tests/attacks/test_patch.py",
    ),
    Mutant("threats/binary.py", "return _binary(x) == 0", "return _binary(x) == 1", "tests/threats/test_binary.py"),
    Mutant("threats/binary.py", "return _binary(x) == 1", "return _binary(x) > -1", "tests/threats/test_binary.py"),
    Mutant(
        "threats/binary.py",
        "if not bool(((x == 0) | (x == 1)).all()):",
        "if not bool(((x >= 0) & (x <= 1)).all()):",
        "tests/threats/test_binary.py",
    ),
    Mutant(
        "threats/binary.py",
        "if not bool(((x == 0) | (x == 1)).all()):",
        "if bool(((x != x.round()) | (x > 1)).any()):",
        "tests/threats/test_binary.py",
    ),
    Mutant(
        "attacks/feature_adversary.py",
        "(-apart.flatten(1).square().sum(1),)",
        "(apart.flatten(1).square().sum(1),)",
        "tests/attacks/test_feature_adversary.py",
    ),
    Mutant(
        "attacks/feature_adversary.py",
        "self.guide[task.row]",
        "self.guide[: len(task.row)]",
        "tests/attacks/test_feature_adversary.py",
    ),
    Mutant(
        "attacks/feature_adversary.py",
        "precise(output[1]) - ",
        "output[1].detach() - ",
        "tests/attacks/test_feature_adversary.py",
    ),
    Mutant(
        "attacks/feature_adversary.py",
        "return feedback.loss >= 0",
        "return feedback.reached",
        "tests/attacks/test_feature_adversary.py",
    ),
    Mutant(
        "attacks/feature_adversary.py",
        "return feedback.loss >= 0",
        "return feedback.loss > 0",
        "tests/attacks/test_feature_adversary.py",
    ),
    Mutant(
        "attacks/feature_adversary.py",
        "        self.seen = None\n        output",
        "        output",
        "tests/attacks/test_feature_adversary.py",
    ),
    Mutant(
        "attacks/feature_adversary.py",
        "self.seen = self.logits_of(output)",
        "self.seen = output",
        "tests/attacks/test_feature_adversary.py",
    ),
    Mutant(
        "attacks/feature_adversary.py", "or len(self.seen) != len(x)", "", "tests/attacks/test_feature_adversary.py"
    ),
    Mutant(
        "attacks/feature_adversary.py", 'if "loss" in options:', "if False:", "tests/attacks/test_feature_adversary.py"
    ),
    Mutant(
        "attacks/feature_adversary.py", 'if options.get("targeted") or', "if", "tests/attacks/test_feature_adversary.py"
    ),
    Mutant(
        "attacks/feature_adversary.py",
        'or options.get("target") is not None:',
        ":",
        "tests/attacks/test_feature_adversary.py",
    ),
    Mutant(
        "attacks/feature_adversary.py",
        "if not isinstance(guide, Tensor) or (guide.shape, guide.dtype, guide.device) != (x.shape, x.dtype, x.device):",
        "if guide.shape != x.shape:",
        "tests/attacks/test_feature_adversary.py",
    ),
    Mutant(
        "attacks/feature_adversary.py",
        'options.get("batch_size") or max(len(x), 1)',
        "max(len(x), 1)",
        "tests/attacks/test_feature_adversary.py",
    ),
    Mutant("attacks/feature_adversary.py", "handle.remove()", "pass", "tests/attacks/test_feature_adversary.py"),
    Mutant(
        "attacks/feature_adversary.py", "random_start=random_start, ", "", "tests/attacks/test_feature_adversary.py"
    ),
    Mutant(
        "attacks/feature_adversary.py",
        "ProjectedGradient(steps, step_size)",
        "ProjectedGradient(steps)",
        "tests/attacks/test_feature_adversary.py",
    ),
    Mutant(
        "attacks/feature_adversary.py",
        "lambda output: read(output[0])",
        "lambda output: output[0]",
        "tests/attacks/test_feature_adversary.py",
    ),
    Mutant(
        "attacks/feature_adversary.py",
        "if layer not in modules:",
        "if False:",
        "tests/attacks/test_feature_adversary.py",
    ),
    Mutant(
        "attacks/feature_adversary.py", "guide.detach().clone()", "guide", "tests/attacks/test_feature_adversary.py"
    ),
    Mutant("attacks/virtual.py", " | (task.threat.radius(task.x).flatten() == 0)", "", "tests/attacks/test_virtual.py"),
    Mutant("attacks/virtual.py", "return feedback.reached | (task", "return (task", "tests/attacks/test_virtual.py"),
]

if torch.__version__ < "2.7":  # 2.6 keeps weights that it casts while gradients are off; 2.13 does not
    MUTANTS.append(
        Mutant("guarding.py", "        torch.clear_autocast_cache()", "        pass", "tests/test_search.py")
    )


def run_tests(tree: Path, tests: list[str], report: Path) -> None:
    """Runs tests of a copy of the tree, in a process that has imported nothing of it yet."""
    with report.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.chdir(tree)
    os.environ |= {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}  # for what the tests start themselves
    sys.dont_write_bytecode = True
    sys.path[0] = str(tree)
    sys.exit(pytest.main([*tests, "-x", "--tb=no", "-p", "no:cacheprovider"]))


def run(mutant: Mutant, trees: queue.Queue[Path]) -> tuple[Mutant, str]:
    """Applies a mutant to a free copy of the tree, and returns the test that failed, or nothing."""
    tree = trees.get()
    path = tree / "advlib" / mutant.file
    source = path.read_text()
    try:
        if mutant.old not in source:
            raise LookupError(f"{mutant.file} no longer holds {mutant.old!r}: bring the mutant up to date")
        path.write_text(source.replace(mutant.old, mutant.new) if mutant.old else source)
        report = tree / "report.txt"
        process = PROCESSES.Process(target=run_tests, args=(tree, mutant.tests.split(), report))
        process.start()
        process.join(600)
        if process.is_alive():
            process.kill()
            return mutant, "time ran out"
        if process.exitcode == 0:
            return mutant, ""
        named = [
            line.split(" - ")[0] for line in report.read_text().splitlines() if line.startswith(("FAILED", "ERROR"))
        ]
        return mutant, named[0] if named else f"exit status {process.exitcode}"
    finally:
        path.write_text(source)
        trees.put(tree)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", help="only mutants of files whose name holds one of these")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="mutants tested at once")
    options = parser.parse_args()
    chosen = [m for m in MUTANTS if not options.words or any(word in m.file for word in options.words)]
    survivors = []
    with tempfile.TemporaryDirectory() as scratch:
        trees: queue.Queue[Path] = queue.Queue()
        for job in range(options.jobs):
            tree = Path(scratch) / str(job)
            for part in ("advlib", "tests"):
                shutil.copytree(ROOT / part, tree / part, ignore=shutil.ignore_patterns("__pycache__"))
            shutil.copy(ROOT / "pyproject.toml", tree)
            trees.put(tree)
        with ThreadPoolExecutor(options.jobs) as pool:
            for unbroken, failed in pool.map(lambda tests: run(whole(tests), trees), sorted({m.tests for m in chosen})):
                if failed:
                    print(f"{failed} fails on the source as it is: mend it first ({unbroken.tests})")
                    return 2
            for mutant, killer in pool.map(lambda m: run(m, trees), chosen):
                print(f"{killer or 'SURVIVED'}\n    {mutant.file}: {mutant.old!r} -> {mutant.new!r}", flush=True)
                if not killer:
                    survivors.append(mutant)
    print(f"{len(chosen)} mutants, {len(chosen) - len(survivors)} killed, {len(survivors)} survived")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
