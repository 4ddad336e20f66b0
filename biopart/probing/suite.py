"""The questions of the part-aware evaluation to a frozen encoder (Zhu et al., TMLR 2024)."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from biopart.data.items import Items
from biopart.evaluation.answers import Answer, class_answers, mean_answer
from biopart.evaluation.probes import nearest_neighbours
from biopart.probing.linear import (
    ATTENTIVE,
    LINEAR,
    AttentiveProbe,
    LinearProbe,
    classify,
    seeded,
)
from biopart.probing.retrieval import Retrieved, retrieve
from biopart.probing.tokens import Tokens

Vectors = Mapping[str, NDArray[np.float32]]
Projection = Callable[[NDArray[np.float32]], NDArray[np.float32]]


@dataclass(frozen=True)
class Asked:
    """A frozen encoder that is asked.

    Attributes
    ----------
    tokens : Tokens
        Its tokens.
    projection : callable, optional
        Tokens (items, 1 + K, D) -> projected features (items, out) of a method with a projector.
    seed : int
        Of the probes' weights and the order of the items.
    own_included : bool
        As the released code: a query is in its own gallery.
    """

    tokens: Tokens
    projection: Projection | None = None
    seed: int = 0
    own_included: bool = False

    @property
    def device(self) -> torch.device:
        """Where probes are trained."""
        return self.tokens.model.device

    def vectors(self, items: Items) -> dict[str, NDArray[np.float32]]:
        """Return features (items, D) by name: cls, mean, projected."""
        found = self.tokens.pooled(items)
        whole = not len(items) or items.boxes(np.arange(1)) is None
        if self.projection is not None and whole:
            found["projected"] = self.projection(self.tokens.of(items))
        return found


def retrieval(asked: Asked, what: str, items: Items) -> tuple[list[Answer], dict[str, Retrieved]]:
    """Return the mean average precision of items as queries, and what they found."""
    answers, found = [], {}
    for name, vectors in asked.vectors(items).items():
        features = torch.from_numpy(vectors).to(asked.device)
        found[name] = retrieve(features, items.labels, own_included=asked.own_included)
        about = (f"{what} retrieval", name, "AP")
        answers.append(mean_answer(about, found[name].precision, items.units))
    return answers, found


def classification(
    asked: Asked, what: str, train: Items, test: Items, *, neighbours: bool = False
) -> Iterator[Answer]:
    """Yield scores of linear and attentive probes, and of the nearest neighbours."""
    classes = len(train.names)
    vectors, others = asked.vectors(train), asked.vectors(test)
    options = {"seed": asked.seed, "device": asked.device}
    for name, features in vectors.items():
        with seeded(asked.seed):
            probe = LinearProbe(features.shape[1], classes)
        predicted = classify(
            probe,
            features,
            train.labels,
            others[name],
            how=LINEAR,
            **options,  # type: ignore[arg-type]
        )
        yield from class_answers(
            f"{what} classification", name, test.labels, predicted, units=test.units
        )
        if neighbours:
            predicted = nearest_neighbours(features, train.labels, others[name])
            yield from class_answers(f"{what} k-NN", name, test.labels, predicted, units=test.units)
    if train.boxes(np.arange(min(1, len(train)))) is not None:
        return  # a part of a larger grid: its few tokens are pooled by where it lies
    tokens, own = asked.tokens.of(train), asked.tokens.of(test)
    heads = getattr(asked.tokens.model.encoder, "heads", None)
    with seeded(asked.seed):
        attentive = AttentiveProbe(tokens.shape[2], classes, heads)
    predicted = classify(attentive, tokens, train.labels, own, how=ATTENTIVE, **options)  # type: ignore[arg-type]
    yield from class_answers(
        f"{what} classification, attentive", "tokens", test.labels, predicted, units=test.units
    )
