"""A generative adversarial network, which goes on where it was interrupted."""

import torch
from torch import nn

import harness


@harness.training_loop
def gan(trial: harness.TrialContext, latent: int = 16, width: int = 128):
    """A generator and a discriminator that learn from each other.

    Args:
        latent: values that the generator makes an image of.
        width: units of each hidden layer.
    """
    pixels = trial.data.features
    generator = network(latent, width, pixels).to(trial.device)
    discriminator = network(pixels, width, 1).to(trial.device)
    networks = nn.ModuleList([generator, discriminator])
    optimizers = [trial.optimizer(net) for net in networks]
    real, _ = trial.examples("val")

    done = trial.resume()
    if done:
        state = torch.load(trial.folder / f"{done}.pt")
        networks.load_state_dict(state["networks"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)

    for epoch in range(done + 1, trial.epochs + 1):
        for images, _ in trial.batches(epoch):
            train_step(generator, discriminator, optimizers, images.flatten(1), latent)
        with torch.no_grad():
            made = generator(torch.randn(len(real), latent, device=trial.device))
        states = [optimizer.state_dict() for optimizer in optimizers]
        state = {"networks": networks.state_dict(), "optimizers": states}
        torch.save(state, trial.folder / f"{epoch}.pt")
        yield {"val/frechet": frechet_distance(real.flatten(1), made)}


def network(inputs, width, outputs):
    hidden = [nn.Linear(inputs, width), nn.LeakyReLU(0.2), nn.Linear(width, width)]
    return nn.Sequential(*hidden, nn.LeakyReLU(0.2), nn.Linear(width, outputs))


def train_step(generator, discriminator, optimizers, images, latent):
    loss = nn.functional.binary_cross_entropy_with_logits
    made = generator(torch.randn(len(images), latent, device=images.device))
    for optimizer in optimizers:
        optimizer.zero_grad()
    judged_real, judged_made = discriminator(images), discriminator(made.detach())
    ones, zeros = torch.ones_like(judged_real), torch.zeros_like(judged_real)
    (loss(judged_real, ones) + loss(judged_made, zeros)).backward()
    optimizers[1].step()
    loss(discriminator(made), ones).backward()
    optimizers[0].step()


def frechet_distance(a, b):
    """The distance of two normal distributions with the means and covariances of a and b."""
    a, b = a.double(), b.double()
    product = torch.linalg.eigvals(a.T.cov() @ b.T.cov()).real.clamp(min=0).sqrt().sum()
    spread = a.T.cov().trace() + b.T.cov().trace() - 2 * product
    return (a.mean(0) - b.mean(0)).square().sum() + spread
