"""Networks of sets, point clouds and graphs."""

import torch
from torch import nn


class DeepSets(nn.Module):
    def __init__(self, dim, classes, hidden=32):
        super().__init__()
        self.phi = nn.Sequential(nn.Linear(dim, hidden), nn.ELU(), nn.Linear(hidden, hidden))
        self.rho = nn.Sequential(nn.Linear(hidden, hidden), nn.ELU(), nn.Linear(hidden, classes))

    def forward(self, x):
        return self.rho(self.phi(x).mean(dim=1))


class PointNet(nn.Module):
    def __init__(self, classes, hidden=32):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv1d(3, hidden, 1), nn.Conv1d(hidden, hidden, 1)
        self.bn1, self.bn2 = nn.BatchNorm1d(hidden), nn.BatchNorm1d(hidden)
        self.fc = nn.Linear(hidden, classes)

    def forward(self, x):
        x = x.transpose(1, 2)
        x = torch.relu(self.bn1(self.conv1(x)))
        x = torch.relu(self.bn2(self.conv2(x)))
        return self.fc(torch.max(x, 2)[0])


class GraphConvolution(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(outputs))
        nn.init.xavier_uniform_(self.weight)

    def forward(self, x, adjacency):
        return adjacency @ (x @ self.weight) + self.bias


class GCN(nn.Module):
    """Graphs [B, nodes, features + nodes]: each node's features, and its row of the adjacency."""

    def __init__(self, shape, classes, hidden=16, dropout=0.5):
        super().__init__()
        nodes, columns = shape
        self.features = columns - nodes
        self.gc1 = GraphConvolution(self.features, hidden)
        self.gc2 = GraphConvolution(hidden, hidden)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(hidden, classes)

    def forward(self, graphs):
        x, a = graphs[..., : self.features], graphs[..., self.features :]
        a = a + torch.eye(a.shape[-1], device=a.device)
        d = a.sum(-1).clamp(min=1).rsqrt()
        a = d.unsqueeze(-1) * a * d.unsqueeze(-2)
        x = self.dropout(torch.relu(self.gc1(x, a)))
        return self.fc(self.gc2(x, a).mean(1))
