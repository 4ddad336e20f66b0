"""biopart for scikit-learn: clone, pipelines, cross-validation by persons.

Windows are (W, C, T), or (W, T) of one channel. Weights are float64 once they are trained, so that
the prediction for a window does not depend on the windows beside it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
)
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data
from torch import nn

from biopart.compute import open_fabric
from biopart.data.arrays import ArrayWindows
from biopart.experiment import start_encoder
from biopart.experiment.stored import method_of
from biopart.nn import About, Model, build_encoder
from biopart.objectives import Classify, Part
from biopart.recipe import (
    SUPERVISED,
    ClassifySettings,
    ComputeSettings,
    FinetuneSettings,
    Normalisation,
    Optimisation,
    PartSettings,
    PretrainSettings,
)
from biopart.run import as_run
from biopart.settings import checked
from biopart.train import Training, fit

BATCH = 64
MOST_PATCHES = 512
HEAD_DIM = 32


class _Windowed(BaseEstimator):
    """What both estimators share: windows as an array, an encoder for them."""

    def __init__(
        self,
        run: str | Path | None = None,
        *,
        patch: int | None = None,
        dim: int = 64,
        depth: int = 2,
        epochs: int = 30,
        lr: float = 1e-3,
        normalise: Normalisation = "window",
        random_state: int = 0,
    ) -> None:
        self.run = run
        self.patch = patch
        self.dim = dim
        self.depth = depth
        self.epochs = epochs
        self.lr = lr
        self.normalise = normalise
        self.random_state = random_state

    def _windows(self, X: ArrayLike, *, fitting: bool) -> NDArray[np.float32]:
        """Check windows and return them as (W, C, T)."""
        checked_values = validate_data(self, X, reset=fitting, allow_nd=True, dtype=np.float64)
        values: NDArray[np.float32] = checked_values.astype(np.float32)
        values = values[:, None] if values.ndim == 2 else values
        if values.ndim != 3:
            raise ValueError(f"windows are (W, C, T) or (W, T); X has {values.ndim} dimensions")
        if fitting:
            self.window_shape_ = values.shape[1:]
        elif values.shape[1:] != self.window_shape_:
            raise ValueError(
                f"windows have the shape {values.shape[1:]}; those of fit had {self.window_shape_}"
            )
        return values

    def _start(self) -> Model:
        """Return the run's encoder, or a new one, with how windows are normalised."""
        channels, samples = self.window_shape_
        if self.run is None:
            torch.manual_seed(self.random_state)
            patch = patch_of(samples, self.patch)
            heads = max(1, self.dim // HEAD_DIM)
            sizes = {"dim": self.dim, "depth": self.depth, "heads": heads}
            grid = {"shape": (samples,), "patch": (patch,), "channels": channels}
            return Model(build_encoder(grid | sizes), About(normalise=self.normalise))
        model = Model.load(as_run(self.run).pretrained())
        encoder = model.encoder
        if (encoder.channels, *encoder.shape) != (channels, samples):
            raise ValueError(
                f"the encoder of {self.run} takes windows of {encoder.channels} channels and "
                f"{encoder.shape[0]} samples; X has {channels} and {samples}"
            )
        return model

    def _pace(self) -> dict[str, Any]:
        """Return the settings that both trainings share."""
        warmup = min(2.0, self.epochs / 10)
        return {"epochs": self.epochs, "batch": BATCH, "lr": self.lr, "warmup_epochs": warmup}

    def _train(
        self,
        objective: nn.Module,
        source: ArrayWindows,
        settings: Optimisation,
        normalise: Normalisation,
        *,
        fresh: Sequence[nn.Parameter] = (),
    ) -> None:
        """Run the one loop on the machine's device, in float32."""
        fabric = open_fabric(checked(ComputeSettings, {"precision": "float32"}, "estimator"))
        seed = self.random_state
        task = Training(objective, source, settings, normalise, seed, fresh=tuple(fresh))
        fit(task, fabric)

    @torch.no_grad()
    def _in_batches(self, net: Any, values: NDArray[np.float32]) -> NDArray[np.float64]:
        """Run a function of windows over all of them."""
        device = self.model_.device
        parts = [
            net(torch.from_numpy(values[start : start + BATCH]).to(device))
            for start in range(0, len(values), BATCH)
        ]
        array: NDArray[np.float64] = torch.cat(parts).cpu().numpy()
        return array


class SleepStager(ClassifierMixin, _Windowed):
    """Classify windows by a vision transformer: stages of sleep, or any other classes.

    Parameters
    ----------
    run : str or Path, optional
        A pretraining whose encoder is fine-tuned; without it a new one is trained, the supervised
        baseline. Then patch, dim, depth and normalise are the run's.
    patch : int, optional
        Samples of a patch, a divisor of the window; by default the largest that makes 30 patches
        or more.
    dim, depth : int
        Size of a new encoder; an attention head has 32 features.
    epochs : int
        Passes over the windows.
    lr : float
        Highest learning rate, of AdamW with warm-up and cosine.
    normalise : "window", "recording" or "none"
        Each channel of a window to mean 0 and deviation 1, or not; "recording", also of a run that
        was trained so: the windows are in deviations of their recording (``data.deviations``).
    random_state : int
        Of weights and order.

    Attributes
    ----------
    classes_ : array
        Labels, sorted.
    model_ : Model
        With weights in float64.
    """

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Train on windows (W, C, T) and their labels (W,); ValueError with fewer than 2 classes.

        A label of -1 among integers is a class like any other: leave unscored windows out.
        """
        if y is None:
            raise ValueError("requires y to be passed, but the target y is None")
        values = self._windows(X, fitting=True)
        labels = np.asarray(y)
        if labels.ndim == 2 and labels.shape[1] == 1:
            labels = column_or_1d(labels, warn=True)
        check_classification_targets(labels)
        if labels.shape != (len(values),):
            raise ValueError(
                "Found input variables with inconsistent numbers of samples: "
                f"{len(values)} windows and labels of the shape {labels.shape}"
            )
        self.classes_, codes = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError("a classifier needs two classes; y has only one class")
        with torch.random.fork_rng():
            start = self._start()
            encoder, method = start.encoder, None
            if self.run is not None:
                method = method_of(str(self.run))
            protocol = SUPERVISED if method is None else method.protocol
            settings = FinetuneSettings(**self._pace()).of_method(protocol)
            if self.run is not None:  # as biopart finetune does
                torch.manual_seed(self.random_state)
                own = {"position": settings.position, "drop_path": 0.0}
                encoder = build_encoder(encoder.arguments | own)
                start_encoder(str(self.run), encoder, positions=settings.keep_positions)
            head = ClassifySettings(
                classes=len(self.classes_), pool=settings.pool, head_std=settings.head_std
            )
            source = ArrayWindows(values, codes.astype(np.int64))
            objective = Classify(encoder, head)
            fresh = () if settings.keep_positions else encoder.positions()
            self._train(
                objective, source, settings.loop_settings, start.about.normalise, fresh=fresh
            )
        names = tuple(str(name) for name in self.classes_)
        about = start.about.model_copy(update={"label_names": names, "positions": True})
        self.model_ = Model(objective.model.double(), about)
        return self

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the probability of each class, (W, C, T) -> (W, classes)."""
        check_is_fitted(self)
        logits = self._in_batches(self.model_.logits, self._windows(X, fitting=False))
        return np.asarray(torch.from_numpy(logits).softmax(1).numpy())

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return the most probable class of each window."""
        best = self.predict_proba(X).argmax(1)
        return np.asarray(self.classes_[best])


class Embedder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, _Windowed):
    """Embed windows by an encoder that PART trained: the mean of the patch tokens.

    Parameters
    ----------
    run : str or Path, optional
        A pretraining whose encoder is taken as it is; without it ``fit`` pretrains one by PART on
        the windows that it gets, without labels. Then patch, dim, depth and normalise are the
        run's, and epochs and lr are for nothing.
    patch, dim, depth, normalise, random_state
        As of SleepStager.
    epochs : int
        Passes of the pretraining over the windows.
    lr : float
        Highest learning rate of the pretraining.

    Attributes
    ----------
    model_ : Model
        An encoder with weights in float64.
    """

    def fit(self, X: ArrayLike, y: ArrayLike | None = None) -> Self:
        """Pretrain on windows (W, C, T), or load the run's encoder; y is not looked at."""
        values = self._windows(X, fitting=True)
        with torch.random.fork_rng():
            model = self._start()
            if self.run is None:
                objective = Part(model.encoder, PartSettings())
                settings = PretrainSettings(**self._pace()).loop_settings
                source = ArrayWindows(values, np.full(len(values), -1))
                self._train(objective, source, settings, model.about.normalise)
                uses_positions = PartSettings().uses_positions
                model.about = model.about.model_copy(update={"positions": uses_positions})
        self.model_ = model.eval().double()
        self._n_features_out = model.encoder.dim
        return self

    def transform(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the embeddings of windows, (W, C, T) -> (W, D), as ``biopart embed`` does."""
        check_is_fitted(self)
        return self._in_batches(self.model_.embed, self._windows(X, fitting=False))


def patch_of(samples: int, wanted: int | None) -> int:
    """Return the samples of a patch: as wanted, or the largest divisor for 30 patches or more.

    Raises
    ------
    ValueError
        If the window is no whole number of patches, or only of far too many.

    Examples
    --------
    >>> patch_of(3000, None), patch_of(3000, 50), patch_of(4, None)
    (100, 50, 1)
    """
    if samples < 2:
        raise ValueError(
            f"Found array with {samples} feature(s) while a minimum of 2 is required: a window of "
            "one sample has no patches"
        )
    divisors = [n for n in range(1, samples) if samples % n == 0]
    patch = wanted or max(n for n in divisors if samples // n >= min(30, samples))
    if patch not in divisors or samples // patch > MOST_PATCHES:
        raise ValueError(
            f"windows of {samples} samples in patches of {patch} are not a whole number of 2 to "
            f"{MOST_PATCHES} patches; give patch= one of "
            f"{', '.join(str(n) for n in divisors if samples // n <= MOST_PATCHES) or 'none'}, or "
            "cut the windows to another length"
        )
    return patch
