"""How an objective is minimised: one loop for all of them."""

from advlib.training.averaging import averaged_model as averaged_model
from advlib.training.averaging import warmed_up_average as warmed_up_average
from advlib.training.loop import Stopped as Stopped
from advlib.training.metrics import CSVWriter as CSVWriter
from advlib.training.substitute import Substitute as Substitute
from advlib.training.substitute import train_substitute as train_substitute
from advlib.training.trainer import CollapseWarning as CollapseWarning
from advlib.training.trainer import Trainer as Trainer
from advlib.training.trainer import TrainingResult as TrainingResult
