"""A Lightning module, trained by Lightning's own trainer an epoch at a time."""

import logging

import lightning
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import harness

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


class Classifier(lightning.LightningModule):
    def __init__(self, inputs: int, classes: int, hidden: int, lr: float):
        super().__init__()
        self.lr = lr
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, classes)
        )

    def training_step(self, batch, _):
        inputs, targets = batch
        loss = nn.functional.cross_entropy(self.layers(inputs), targets)
        self.log("train/loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch, _):
        inputs, targets = batch
        logits = self.layers(inputs)
        self.log("val/loss", nn.functional.cross_entropy(logits, targets))
        self.log("val/accuracy", (logits.argmax(1) == targets).float().mean())

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=self.lr)


@harness.training_loop
def classifier(trial: harness.TrialContext, hidden: int = 64):
    """A network with one hidden layer.

    Args:
        hidden: its units.
    """
    module = Classifier(trial.data.features, trial.data.classes, hidden, trial.lr)
    training = TensorDataset(*trial.examples("train"))
    validation = TensorDataset(*trial.examples("val"))
    loaders = [
        DataLoader(training, trial.batch_size, shuffle=True),
        DataLoader(validation, trial.batch_size),
    ]
    trainer = lightning.Trainer(
        accelerator=trial.device.type,
        devices=1,
        logger=False,
        num_sanity_val_steps=0,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    for epoch in range(trial.resume() + 1, trial.epochs + 1):
        trainer.fit_loop.max_epochs = epoch
        # A call of fit makes new optimizers: the checkpoint has the state of those before.
        before = trial.folder / f"{epoch - 1}.ckpt"
        trainer.fit(module, *loaders, ckpt_path=before if before.exists() else None)
        trainer.save_checkpoint(trial.folder / f"{epoch}.ckpt")
        yield trainer.callback_metrics
