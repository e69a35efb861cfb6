"""Evaluates in processes that are killed at random moments, ten times, or in several processes at once.

``resumed_run.py killed FOLDER`` forks from a process that has imported everything, so that the moments fall into the
evaluation. ``resumed_run.py rank FOLDER RANK SIZE`` is one of several processes, through gloo.
"""

import importlib
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch
from torch import distributed, nn

import advlib
from advlib.evaluation import schedule

module = importlib.import_module("advlib.evaluation.evaluate")  # the name of the function hides it
ROWS, BLOCK = 70, 25


def problem(rows=ROWS):
    """A small network in float64, and inputs that it is right about but for a few."""
    torch.manual_seed(3)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.Tanh(), nn.Linear(12, 4)).double()
    x = torch.rand(rows, 1, 4, 4, dtype=torch.float64)
    with torch.no_grad():
        y = model(x).argmax(1)
    y[::11] = (y[::11] + 1) % 4
    return model, x, y


def evaluated(path=None, **options):
    """The same evaluation each time: in L2, so that inputs of other classes help too."""
    torch.set_num_threads(1)
    module.BLOCK = BLOCK
    schedule.PLANS["standard"] = schedule.Plan(((0.5, 2),), 0.5, 2, 2, 3)  # a little of everything
    model, x, y = problem()
    settings = {"progress": False, "generator": torch.Generator().manual_seed(1), **options}
    return advlib.evaluate(settings.pop("model", model), x, y, advlib.L2(0.15), path=path, **settings)


def told(result):
    """All that a result says, but for the time it took."""
    fields = json.loads(result.to_json())
    for stage in fields["stages"]:
        del stage["seconds"]
    x_adv = None if result.x_adv is None else result.x_adv.tolist()
    return {**fields, "x_adv": x_adv, "x": None if result.x is None else result.x.tolist()}


def started(path, out):
    pid = os.fork()
    if pid == 0:
        out.write_text(json.dumps(told(evaluated(path))))
        os._exit(0)
    return pid


def killed(folder):
    began = time.perf_counter()
    wanted = told(evaluated())
    length = time.perf_counter() - began
    chance, kills, rounds = random.Random(0), 0, 0
    while kills < 10:
        path, out = folder / f"run-{rounds}", folder / f"run-{rounds}.json"
        pid = started(path, out)
        time.sleep(chance.uniform(0, 0.3 * length))
        os.kill(pid, signal.SIGKILL)
        ended = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        kills += ended == -signal.SIGKILL
        if ended == 0:  # it was faster: what it found counts, and the next one starts over
            assert json.loads(out.read_text()) == wanted
            rounds += 1
    path, out = folder / f"run-{rounds}", folder / f"run-{rounds}.json"
    assert os.waitpid(started(path, out), 0)[1] == 0
    assert json.loads(out.read_text()) == wanted
    print(json.dumps({"kills": kills, "rounds": rounds}))


def ranked(folder, rank, size):
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=size)
    # without a generator every process draws from its own global one: the first one's draw has to count
    torch.manual_seed(1 if rank == 0 else 100 + rank)
    path = folder / "kept"
    found = [told(evaluated(path, distributed=True)), told(evaluated(path, distributed=True))]
    few = told(evaluated(distributed=True, examples=False))
    (folder / f"{rank}.json").write_text(json.dumps([*found, few]))
    distributed.destroy_process_group()


if __name__ == "__main__":
    if sys.argv[1] == "killed":
        killed(Path(sys.argv[2]))
    else:
        ranked(Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
