"""Encoders that a task at every place starts from."""

from torch import nn

from biopart.experiment import read_weights
from biopart.experiment.stored import method_of
from biopart.nn import Encoder
from biopart.recipe import TrunkSettings


def start_trunk(encoder: Encoder, settings: TrunkSettings) -> tuple[str, list[nn.Parameter]]:
    """Give a new encoder the weights that settings name.

    Pretrained positions are kept where there are any, but not of methods that are pretrained
    without, unless ``keep_positions`` says otherwise.

    Returns
    -------
    str, list of nn.Parameter
        What it started from, and its positions if they are new.

    Raises
    ------
    FileNotFoundError, ValueError
        If there are no such weights, or they do not fit.
    """
    started_from, where, keep = "a new encoder", settings.weights, settings.keep_positions
    if where is not None:
        weights = read_weights(where)
        if keep is None:
            method = method_of(where)
            trained = method is None or method.protocol.keep_positions
            keep = trained and weights.has_positions
        started_from = weights.give(encoder, positions=keep)
    return started_from, [] if where is not None and keep else encoder.positions()
