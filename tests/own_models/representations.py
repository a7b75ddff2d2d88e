"""Autoencoders and a siamese network, with their losses."""

import torch
from torch import nn
from torch.nn import functional as F


class Autoencoder(nn.Module):
    def __init__(self, features, hidden=32, code=8):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Flatten(), nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, code)
        )
        self.decoder = nn.Sequential(
            nn.Linear(code, hidden), nn.ReLU(), nn.Linear(hidden, features)
        )

    def forward(self, x):
        return self.decoder(self.encoder(x))


class VAE(nn.Module):
    def __init__(self, features, hidden=32, latent=4):
        super().__init__()
        self.fc1 = nn.Linear(features, hidden)
        self.mean, self.logvar = nn.Linear(hidden, latent), nn.Linear(hidden, latent)
        self.fc3, self.fc4 = nn.Linear(latent, hidden), nn.Linear(hidden, features)

    def encode(self, x):
        h = F.relu(self.fc1(x.flatten(1)))
        return self.mean(h), self.logvar(h)

    def decode(self, z):
        return self.fc4(F.relu(self.fc3(z)))

    def forward(self, x):
        mean, logvar = self.encode(x)
        if not self.training:
            return self.decode(mean)
        return self.decode(mean), mean, logvar


def elbo(model, batch, generator, beta: float = 1.0):
    """Reconstruction error and the divergence from the prior."""
    x = batch.inputs
    mean, logvar = model.encode(x)
    noise = torch.randn(mean.shape, generator=generator, device=x.device)
    out = model.decode(mean + noise * torch.exp(0.5 * logvar))
    error = F.mse_loss(out, x.flatten(1), reduction="none").sum(1)
    divergence = -0.5 * torch.sum(1 + logvar - mean.pow(2) - logvar.exp(), dim=1)
    return error + beta * divergence, out


class Siamese(nn.Module):
    """An encoder, and a classifier of what it returns."""

    def __init__(self, features, classes, hidden=32, dim=16):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Flatten(), nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, dim)
        )
        self.head = nn.Linear(dim, classes)

    def embed(self, x):
        return F.normalize(self.encoder(x), dim=1)

    def forward(self, x):
        return self.head(self.encoder(x))


def contrastive(model, batch, generator, margin: float = 1.0, weight: float = 0.5):
    """Pairs each example with another one: the same class is near, others are far."""
    x, y = batch
    other = torch.randperm(len(x), generator=generator, device=x.device)
    distance = F.pairwise_distance(model.embed(x), model.embed(x[other]))
    same = (y == y[other]).float()
    pairs = same * distance**2 + (1 - same) * F.relu(margin - distance) ** 2
    outputs = model(x)
    return F.cross_entropy(outputs, y, reduction="none") + weight * pairs, outputs
