"""Trains in a process that is killed at random moments, ten times, and continued each time.

Processes are forked from one that has imported everything, so that the moments fall into training.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch
from training_problems import whole_run

from advlib.training.checkpoint import read_checkpoint


def started(path, resume, weights):
    pid = os.fork()
    if pid == 0:
        model, _ = whole_run(path, resume, free=free, epochs=8, every=1)
        torch.save(model.state_dict(), weights)
        os._exit(0)
    return pid


def position(path):
    if not path.exists():
        return [0, 0]
    progress = read_checkpoint(path)["progress"]  # whole, at whatever moment its writer was killed
    return [progress["epoch"], progress["batch"]]


torch.set_num_threads(1)
folder, free = Path(sys.argv[1]), sys.argv[2] == "1"
whole_run(folder / "warm.pt", False, free=free)  # a first run imports more than the later ones
began = time.perf_counter()
assert os.waitpid(started(folder / "whole.pt", False, folder / "whole.weights"), 0)[1] == 0
length = time.perf_counter() - began
chance, kills, positions = random.Random(0), 0, []
while kills < 10:
    pid = started(folder / "killed.pt", True, folder / "killed.weights")
    time.sleep(chance.uniform(0, 0.2 * length))
    os.kill(pid, signal.SIGKILL)
    ended = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if ended == 0:  # it was faster: start over, the kills so far count
        (folder / "killed.pt").unlink()
    kills += ended == -signal.SIGKILL
    positions.append(position(folder / "killed.pt"))
assert os.waitpid(started(folder / "killed.pt", True, folder / "killed.weights"), 0)[1] == 0
print(json.dumps({"kills": kills, "positions": positions}))
