"""The questions of the part-aware evaluation to a frozen encoder (Zhu et al., TMLR 2024)."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

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

Projection = Callable[[NDArray[np.float32]], NDArray[np.float32]]


@dataclass(frozen=True)
class FrozenEncoder:
    """A frozen encoder with what its probes depend on.

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
        if self.projection is not None and items.fill_grid:
            found["projected"] = self.projection(self.tokens.of(items))
        return found


def retrieval(
    frozen: FrozenEncoder, what: str, items: Items
) -> tuple[list[Answer], dict[str, Retrieved]]:
    """Return the mean average precision of items as queries, and what they found."""
    answers, found = [], {}
    for name, vectors in frozen.vectors(items).items():
        features = torch.from_numpy(vectors).to(frozen.device)
        found[name] = retrieve(features, items.labels, own_included=frozen.own_included)
        about = (f"{what} retrieval", name, "AP")
        answers.append(mean_answer(about, found[name].precision, items.units))
    return answers, found


def classification(
    frozen: FrozenEncoder, what: str, train: Items, test: Items, *, neighbours: bool = False
) -> Iterator[Answer]:
    """Yield scores of linear and attentive probes, and of the nearest neighbours."""
    classes = len(train.names)
    vectors, others = frozen.vectors(train), frozen.vectors(test)
    for name, features in vectors.items():
        with seeded(frozen.seed):
            probe = LinearProbe(features.shape[1], classes)
        predicted = classify(
            probe,
            features,
            train.labels,
            others[name],
            how=LINEAR,
            seed=frozen.seed,
            device=frozen.device,
            keep=partial(frozen.tokens.probe, (features, train.labels, LINEAR, frozen.seed)),
        )
        yield from class_answers(
            f"{what} classification", name, test.labels, predicted, units=test.units
        )
        if neighbours:
            predicted = nearest_neighbours(features, train.labels, others[name])
            yield from class_answers(f"{what} k-NN", name, test.labels, predicted, units=test.units)
    # Of a part of a larger grid the query attends to the tokens that it covers.
    of = frozen.tokens.of if train.fill_grid else frozen.tokens.covered
    heads = getattr(frozen.tokens.model.encoder, "heads", None)
    dim = frozen.tokens.model.encoder.dim
    with seeded(frozen.seed):
        attentive = AttentiveProbe(dim, classes, heads, marked=not train.fill_grid)
    predicted = classify(
        attentive,
        of(train),
        train.labels,
        of(test),
        how=ATTENTIVE,
        seed=frozen.seed,
        device=frozen.device,
        keep=partial(frozen.tokens.probe, (train.key, heads, train.labels, ATTENTIVE, frozen.seed)),
    )
    yield from class_answers(
        f"{what} classification, attentive", "tokens", test.labels, predicted, units=test.units
    )
