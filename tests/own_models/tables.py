"""Networks for tables and coordinates."""

import math

import torch
from torch import nn
from torch.nn import functional as F


class TabTransformer(nn.Module):
    """Each column becomes a token."""

    def __init__(self, num_features, num_classes, dim=16, depth=2, heads=2, dropout=0.0):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(num_features, dim) / math.sqrt(dim))
        self.bias = nn.Parameter(torch.zeros(num_features, dim))
        layer = nn.TransformerEncoderLayer(
            dim, heads, 2 * dim, dropout=dropout, batch_first=True, norm_first=True
        )
        self.transformer = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(num_features * dim, num_classes))

    def forward(self, x):
        return self.head(self.transformer(x.unsqueeze(-1) * self.weight + self.bias))


class KANLayer(nn.Module):
    """Splines of the inputs as activations, one for each edge (Liu et al., 2024)."""

    def __init__(self, inputs, outputs, grid=5, order=3, low=-3.0, high=3.0):
        super().__init__()
        step = (high - low) / grid
        knots = torch.arange(-order, grid + order + 1) * step + low
        self.order = order
        self.register_buffer("knots", knots.expand(inputs, -1).contiguous())
        self.base = nn.Parameter(torch.randn(outputs, inputs) / math.sqrt(inputs))
        self.spline = nn.Parameter(0.1 * torch.randn(outputs, inputs, grid + order))

    def basis(self, x):
        x, knots = x.unsqueeze(-1), self.knots
        bases = ((x >= knots[:, :-1]) & (x < knots[:, 1:])).to(x.dtype)
        for k in range(1, self.order + 1):
            left = (x - knots[:, : -(k + 1)]) / (knots[:, k:-1] - knots[:, : -(k + 1)])
            right = (knots[:, k + 1 :] - x) / (knots[:, k + 1 :] - knots[:, 1:(-k)])
            bases = left * bases[..., :-1] + right * bases[..., 1:]
        return bases

    def forward(self, x):
        spline = F.linear(self.basis(x).flatten(1), self.spline.flatten(1))
        return F.linear(F.silu(x), self.base) + spline


class KAN(nn.Module):
    def __init__(self, layers):
        super().__init__()
        self.layers = nn.ModuleList([KANLayer(i, o) for i, o in zip(layers, layers[1:])])  # noqa: B905, RUF007

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


class MixtureOfExperts(nn.Module):
    def __init__(self, features, classes, experts=4, hidden=16, top_k=2):
        super().__init__()
        self.top_k = top_k
        self.gate = nn.Linear(features, experts)
        self.experts = nn.ModuleList(
            [
                nn.Sequential(nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, classes))
                for _ in range(experts)
            ]
        )

    def forward(self, x):
        scores = self.gate(x)
        top, _ = scores.topk(self.top_k, dim=1)
        scores = scores.masked_fill(scores < top[:, -1:], float("-inf"))
        weights = F.softmax(scores, dim=1).unsqueeze(-1)
        return (torch.stack([expert(x) for expert in self.experts], dim=1) * weights).sum(1)


class FourierFeatures(nn.Module):
    def __init__(self, inputs, outputs, frequencies=32, sigma=1.0, hidden=32):
        super().__init__()
        self.register_buffer("B", sigma * torch.randn(inputs, frequencies))
        self.net = nn.Sequential(
            nn.Linear(2 * frequencies, hidden), nn.ReLU(), nn.Linear(hidden, outputs)
        )

    def forward(self, x):
        x = 2 * math.pi * x @ self.B
        return self.net(torch.cat([x.sin(), x.cos()], dim=-1))


class Sine(nn.Module):
    def __init__(self, inputs, outputs, omega=3.0, first=False):
        super().__init__()
        self.omega, self.linear = omega, nn.Linear(inputs, outputs)
        bound = 1 / inputs if first else math.sqrt(6 / inputs) / omega
        with torch.no_grad():
            self.linear.weight.uniform_(-bound, bound)

    def forward(self, x):
        return torch.sin(self.omega * self.linear(x))


class Siren(nn.Sequential):
    def __init__(self, inputs, outputs, hidden=32):
        super().__init__(
            Sine(inputs, hidden, first=True), Sine(hidden, hidden), nn.Linear(hidden, outputs)
        )
