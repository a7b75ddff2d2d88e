"""Convolutional networks: densely connected, depthwise, squeeze-and-excitation, ConvNeXt."""

import torch
from torch import nn


class DenseLayer(nn.Module):
    def __init__(self, channels, growth):
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.conv = nn.Conv2d(channels, growth, 3, padding=1, bias=False)

    def forward(self, x):
        return torch.cat([x, self.conv(torch.relu(self.norm(x)))], 1)


class DenseNet(nn.Module):
    def __init__(self, in_channels, classes, growth=8, layers=(3, 3)):
        super().__init__()
        channels = 2 * growth
        parts = [nn.Conv2d(in_channels, channels, 3, padding=1)]
        for i, n in enumerate(layers):
            for _ in range(n):
                parts.append(DenseLayer(channels, growth))
                channels += growth
            if i < len(layers) - 1:
                parts += [nn.Conv2d(channels, channels // 2, 1), nn.AvgPool2d(2)]
                channels //= 2
        self.features = nn.Sequential(*parts)
        self.classifier = nn.Linear(channels, classes)

    def forward(self, x):
        return self.classifier(self.features(x).mean((2, 3)))


class SqueezeExcitation(nn.Module):
    def __init__(self, channels, reduction=4):
        super().__init__()
        self.fc = nn.Sequential(
            nn.Linear(channels, channels // reduction),
            nn.SiLU(inplace=True),
            nn.Linear(channels // reduction, channels),
            nn.Sigmoid(),
        )

    def forward(self, x):
        b, c, _, _ = x.size()
        return x * self.fc(x.mean((2, 3))).view(b, c, 1, 1)


class InvertedResidual(nn.Module):
    def __init__(self, channels, expand=4, se=False):
        super().__init__()
        hidden = channels * expand
        layers = [
            nn.Conv2d(channels, hidden, 1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.SiLU() if se else nn.ReLU6(inplace=True),
            nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden, bias=False),
            nn.BatchNorm2d(hidden),
            nn.SiLU() if se else nn.ReLU6(inplace=True),
        ]
        if se:
            layers.append(SqueezeExcitation(hidden))
        layers += [nn.Conv2d(hidden, channels, 1, bias=False), nn.BatchNorm2d(channels)]
        self.block = nn.Sequential(*layers)

    def forward(self, x):
        return x + self.block(x)


class MobileNet(nn.Module):
    def __init__(self, in_channels, num_classes, width=8, blocks=2, se=False, dropout=0.2):
        super().__init__()
        self.stem = nn.Conv2d(in_channels, width, 3, stride=2, padding=1)
        self.blocks = nn.ModuleList([InvertedResidual(width, se=se) for _ in range(blocks)])
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(width, num_classes),
        )

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def efficientnet(in_channels, num_classes, width=8):
    return MobileNet(in_channels, num_classes, width, se=True)


class LayerNorm2d(nn.LayerNorm):
    def forward(self, x):
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvNeXtBlock(nn.Module):
    def __init__(self, dim, kernel_size=5, layer_scale=1e-2):
        super().__init__()
        self.dwconv = nn.Conv2d(dim, dim, kernel_size, padding=kernel_size // 2, groups=dim)
        self.norm = LayerNorm2d(dim)
        self.pwconv1, self.pwconv2 = nn.Conv2d(dim, 4 * dim, 1), nn.Conv2d(4 * dim, dim, 1)
        self.gamma = nn.Parameter(layer_scale * torch.ones(dim, 1, 1))

    def forward(self, x):
        out = self.pwconv2(nn.functional.gelu(self.pwconv1(self.norm(self.dwconv(x)))))
        return x + self.gamma * out


class ConvNeXt(nn.Module):
    def __init__(self, in_chans=3, num_classes=10, dim=16, depth=2):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(in_chans, dim, 2, stride=2), LayerNorm2d(dim))
        self.stages = nn.Sequential(*[ConvNeXtBlock(dim) for _ in range(depth)])
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, num_classes)

    def forward(self, x):
        return self.head(self.norm(self.stages(self.stem(x)).mean([-2, -1])))
