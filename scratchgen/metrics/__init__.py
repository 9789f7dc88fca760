"""How good samples are: distances between features, coverage, copies, and the eye that sees features."""

from scratchgen.metrics.classifier import Classifier, ClassifierConfig, Seen, classifier_score
from scratchgen.metrics.frechet import Moments, frechet, moments
from scratchgen.metrics.neighbours import Nearest, PrecisionRecall, nearest, precision_recall
from scratchgen.metrics.quality import Quality, Reference, Row, quality, table

__all__ = [
    "Classifier", "ClassifierConfig", "Moments", "Nearest", "PrecisionRecall", "Quality", "Reference", "Row",
    "Seen", "classifier_score", "frechet", "moments", "nearest", "precision_recall", "quality", "table",
]  # fmt: skip
