"""Small data sets of one's own, where no built-in one fits."""

import torch

import harness


@harness.dataset
def words(n: int = 256, length: int = 8):
    """Sentences of token numbers; the class is the token that is most frequent among 1, 2 and 3."""
    torch.manual_seed(0)
    x = torch.randint(0, 12, (n, length))
    counts = torch.stack([(x == token).sum(1) for token in (1, 2, 3)], 1)
    return x, counts.argmax(1)


@harness.dataset
def clouds(n: int = 256, points: int = 16):
    """Points in space, on a sphere or in a cube."""
    torch.manual_seed(1)
    x = torch.randn(n, points, 3)
    y = torch.arange(n) % 2
    sphere = x / x.norm(dim=2, keepdim=True)
    return torch.where(y[:, None, None] == 1, sphere, x.clamp(-1, 1)), y


@harness.dataset
def graphs(n: int = 256, nodes: int = 8, features: int = 3):
    """Random graphs, sparse or dense."""
    torch.manual_seed(2)
    y = torch.arange(n) % 2
    edges = torch.rand(n, nodes, nodes) < (0.2 + 0.3 * y)[:, None, None]
    adjacency = (edges | edges.transpose(1, 2)).float()
    return torch.cat([torch.randn(n, nodes, features), adjacency], 2), y
