"""The judge of a run: the classifier whose features the quality figures are taken in.

It is trained once, from a fixed seed on the training images alone, and kept in the run folder as
`judge.safetensors`; its record says which data, which network and which training it comes from.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from scratchgen.data import DataError, Dataset, digits
from scratchgen.metrics.classifier import Classifier, ClassifierConfig
from scratchgen.random import Generator
from scratchgen.train import CheckpointError, RunError, TrainConfig, as_json, checkpoint, train

FILE = "judge.safetensors"
TRAINING = TrainConfig(steps=1200, batch_size=64, lr=3e-3, warmup=50, final_lr=0.01)
log = logging.getLogger(__name__)


def judge(run_folder_path: str | Path, progress: bool = True, dataset: Dataset | None = None) -> Classifier:
    """The classifier of the run folder, loaded from it, or trained and left there.

    dataset: labelled images; the bundled digits by default.
    A cached judge that is damaged, or of other data, is trained anew; that, and a folder which cannot be
    written to, costs one line of warning in the log.
    Raises RunError if there is no such folder, DataError if the data are no labelled images.
    """
    folder = Path(run_folder_path)
    if not folder.is_dir():
        raise RunError(f"{folder}: is not a folder")
    data = digits() if dataset is None else dataset
    if data.train_labels is None or data.train.ndim != 4:
        raise DataError(f"{data.name}: a judge needs labelled images to learn from")
    config = ClassifierConfig(shape=data.shape, classes=int(data.train_labels.max()) + 1)
    classifier = Classifier(config, rng=Generator(TRAINING.seed))
    training = replace(TRAINING, batch_size=min(TRAINING.batch_size, len(data.train)))
    origin = {"data": digest(data), "classifier": as_json(config), "train": as_json(training)}
    path = folder / FILE
    if path.exists():
        try:
            load(classifier, path, origin)
            return classifier
        except CheckpointError as error:
            log.warning("%s; the judge is trained anew", error)
    train(classifier, (data.train, data.train_labels), training, name="judge", progress=progress)
    try:
        checkpoint.save(path, classifier.state_dict(), origin)
    except CheckpointError as error:
        log.warning("%s; the judge will be trained again next time", error)
    return classifier


def load(classifier: Classifier, path: Path, origin: dict[str, Any]) -> None:
    """Give the classifier the weights in the file.

    Raises CheckpointError, and changes nothing, if the file is damaged or its record is not `origin`.
    """
    arrays, meta = checkpoint.load(path)
    if meta != origin:
        raise CheckpointError(f"{path}: comes from other data or another training")
    try:
        classifier.load_state_dict(arrays)
    except ValueError as error:
        raise CheckpointError(f"{path}: does not fit the classifier: {error}") from error


def digest(data: Dataset) -> str:
    """SHA-256 of the training images and labels."""
    labels = data.train_labels
    return hashlib.sha256(data.train.tobytes() + (b"" if labels is None else labels.tobytes())).hexdigest()
