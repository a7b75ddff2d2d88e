"""REINFORCE on a grid world: no data set, no model of the harness."""

import numpy as np

import harness

MOVES = np.array([(0, 1), (0, -1), (1, 0), (-1, 0)])


class GridWorld:
    """A walk from one corner of a square to the other. Each step costs 1; 30 steps end it."""

    def __init__(self, size: int):
        self.size = size

    def walk(self, choose):
        """Returns the cells and moves of an episode, and its reward."""
        place, cells, moves = np.zeros(2, int), [], []
        while len(moves) < 30 and not (place == self.size - 1).all():
            cells.append(place[0] * self.size + place[1])
            moves.append(choose(cells[-1]))
            place = np.clip(place + MOVES[moves[-1]], 0, self.size - 1)
        return cells, moves, -float(len(moves))


@harness.training_loop
def reinforce(trial: harness.TrialContext, size: int = 4, baseline: bool = True):
    """Williams's policy gradient, with a table of logits.

    Args:
        size: cells of a side of the grid world.
        baseline: subtract the mean reward of earlier episodes.
    """
    world, logits, mean = GridWorld(size), np.zeros((size * size, len(MOVES))), 0.0

    def policy(cell):
        exponents = np.exp(logits[cell] - logits[cell].max())
        return exponents / exponents.sum()

    for _ in range(trial.epochs):
        rewards = []
        for _ in range(10):
            cells, moves, reward = world.walk(lambda cell: np.random.choice(4, p=policy(cell)))
            advantage = reward - mean if baseline else reward
            for cell, move in zip(cells, moves, strict=True):
                logits[cell] += trial.lr * advantage * (np.eye(4)[move] - policy(cell))
            mean += 0.1 * (reward - mean)
            rewards.append(reward)
        yield {"train/reward": np.mean(rewards)}
