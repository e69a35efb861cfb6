"""Evaluation: how robust a model is, and how far the number is to be trusted."""

from advlib.evaluation.curves import Curve as Curve
from advlib.evaluation.curves import distance_curve as distance_curve
from advlib.evaluation.curves import robustness_curve as robustness_curve
from advlib.evaluation.distances import ClassDistances as ClassDistances
from advlib.evaluation.distances import NearestPair as NearestPair
from advlib.evaluation.distances import nearest_class_distances as nearest_class_distances
from advlib.evaluation.evaluate import evaluate as evaluate
from advlib.evaluation.export import SavedPictures as SavedPictures
from advlib.evaluation.report import compare as compare
from advlib.evaluation.result import Evaluation as Evaluation
from advlib.evaluation.result import Finding as Finding
from advlib.evaluation.result import Stage as Stage
from advlib.evaluation.tradeoff import Stretch as Stretch
from advlib.evaluation.tradeoff import Tradeoff as Tradeoff
from advlib.evaluation.tradeoff import tradeoff as tradeoff
from advlib.evaluation.transfer import TransferMatrix as TransferMatrix
from advlib.evaluation.transfer import transfer_matrix as transfer_matrix
