"""One of two processes that train together, through gloo; what it found is left in a file."""

import sys
from functools import partial
from pathlib import Path

import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data.distributed import DistributedSampler
from training_problems import DATA, QUICK, network, trainer, without_times

from advlib.defenses import TRADES, AdversarialTraining, FreeAdversarialTraining

FIXED = partial(QUICK, random_start=False)


OBJECTIVES = {
    "batchnorm": lambda: AdversarialTraining(QUICK),
    "free": lambda: FreeAdversarialTraining(QUICK.keywords["threat"], replays=2),
}


def joined(rows, dtype, batch_size, processes):
    """Batches such that those of all processes together are those of one."""
    data = TensorDataset(DATA.x_train[rows].to(dtype), DATA.y_train[rows])
    sampler = DistributedSampler(data, shuffle=False) if processes > 1 else None
    return DataLoader(data, batch_size // processes, sampler=sampler)


def straight(processes):
    """Training without chance, in double precision."""
    model = network(norm=False).double()
    given, reductions = model, []
    if processes > 1:
        given = DistributedDataParallel(model)

        def count(state, bucket):
            reductions.append(bucket.is_last())
            future = distributed.all_reduce(bucket.buffer().div_(processes), async_op=True).get_future()
            return future.then(lambda done: done.value()[0])

        given.register_comm_hook(None, count)
    made = trainer(given, AdversarialTraining(FIXED, 0.5), steps=12, attack=FIXED, collapse_guard=FIXED, averaging=0.8)
    train, held_out = (joined(rows, torch.float64, 32, processes) for rows in (slice(0, 128), slice(1400, 1477)))
    result = made.fit(train, epochs=3, validation=held_out, progress=False)
    return {
        "weights": dict(model.state_dict()),
        "gradients": [parameter.grad for parameter in model.parameters()],
        "history": without_times(result.history),
        "reductions": len(reductions),
        "steps": result.history[-1]["step"],
    }


def chance(path, objective, resume, stop_at=None):
    """Training with all that differs between processes: shuffling, dropout, random starts, BatchNorm."""
    torch.manual_seed(10 + distributed.get_rank())
    data = TensorDataset(DATA.x_train[:150], DATA.y_train[:150])
    loaders = [DataLoader(data, 16, sampler=DistributedSampler(data, shuffle=True)) for _ in range(2)]
    model, steps = network(dropout=0.3), []
    made = trainer(model, objective(), attack=QUICK, averaging=0.9)

    def stop(*_):
        steps.append(0)
        if len(steps) == stop_at:
            raise InterruptedError

    made.optimizer.register_step_post_hook(stop)
    options = {"validation": loaders[1], "checkpoint": path, "every": 3, "resume": resume, "progress": False}
    result = made.fit(loaders[0], epochs=3, **options)
    return {"weights": dict(model.state_dict()), "history": without_times(result.history)}


def message(call, error):
    try:
        call()
    except error as found:
        return str(found)
    return None


def unsharded():
    data = TensorDataset(DATA.x_train[:64], DATA.y_train[:64])
    return trainer(network()).fit(DataLoader(data, 32, shuffle=True), epochs=1, progress=False)


def broken():
    """A batch that is no number, in one process alone."""
    batches = [(DATA.x_train[:8].clone(), DATA.y_train[:8]) for _ in range(40)]
    if distributed.get_rank() == 1:
        batches[20][0].fill_(float("nan"))
    model = network(norm=False)

    def attack(model, x, y, loss):
        assert not isinstance(model, DistributedDataParallel)  # an attack's passes are no business of its reducer
        return x

    return trainer(model, TRADES(attack)).fit(batches, epochs=1, progress=False)


def main(rank, folder):
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    found = {"straight": straight(2)}
    for name, objective in OBJECTIVES.items():
        whole, run = (folder / f"{name}-{kind}.pt" for kind in ("whole", "run"))
        found[f"{name} whole"] = chance(whole, objective, False)
        for stop_at in (5, 8):
            message(lambda at=stop_at, o=objective, path=run: chance(path, o, True, at), InterruptedError)
        found[f"{name} resumed"] = chance(run, objective, True)
    found["unsharded"] = message(unsharded, ValueError)
    found["broken"] = message(broken, FloatingPointError)
    torch.save(found, folder / f"{rank}.found")
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
