import torch
from training_problems import QUICK, held_out, loader, network, trainer


def test_training_raises_robust_accuracy():
    torch.manual_seed(0)
    made = trainer(network(), steps=10 * 8, attack=QUICK, averaging=0.9)
    result = made.fit(loader(slice(0, 640), 64), epochs=8, validation=held_out(), progress=False)
    scores = [row["robust_accuracy"] for row in result.history]
    assert scores[-1] > scores[0] + 0.2
    assert result.best_score == max(scores)
    assert result.history[result.best_epoch - 1]["robust_accuracy"] == result.best_score
    assert result.stopped is None
    assert not any(module.training for module in made.model.modules())
