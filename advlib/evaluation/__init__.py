"""Evaluation: how robust a model is, and how far the number is to be trusted."""

from advlib.evaluation.evaluate import evaluate as evaluate
from advlib.evaluation.result import Evaluation as Evaluation
from advlib.evaluation.result import Finding as Finding
from advlib.evaluation.result import Stage as Stage
