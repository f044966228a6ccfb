"""skorch's history and mean loss, in less time."""

import numpy as np
import skorch.history
from skorch.callbacks import PassthroughScoring

__all__ = ["History", "TrainLoss"]


class History(skorch.history.History):
    """skorch's history, which copies the list of epochs to look one of them up.

    It is looked up a dozen times a step, and small tables train for 2,000 epochs.
    """

    def __getitem__(self, i):
        return list.__getitem__(self, i) if type(i) is int else super().__getitem__(i)


class TrainLoss(PassthroughScoring):
    """skorch's mean of the batches' losses, in a tenth of the time."""

    def __init__(self):
        super().__init__("train_loss", on_train=True)

    def on_epoch_end(self, net, **kwargs):
        """Record the mean over rows, and whether it is the lowest."""
        epoch = net.history[-1]
        sizes = [batch["train_batch_size"] for batch in epoch["batches"]]
        losses = [batch["train_loss"] for batch in epoch["batches"]]
        epoch["train_loss"] = np.multiply(losses, sizes).sum() / sum(sizes)
        best = epoch["train_loss_best"] = bool(epoch["train_loss"] < self.best_score_)
        if best:
            self.best_score_ = epoch["train_loss"]
