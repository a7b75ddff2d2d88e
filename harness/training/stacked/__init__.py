"""Training of several trials at once, as one stack.

- `stack.Stack` holds all that the trials train with: the examples (`data`), the models as one
  `network` of stacked `modules`, and an `optimizer` of `update_rules`.
- `loop.train_stack` trains it and yields records; `steps` runs the updates, recorded by
  `cuda_graph` on a GPU.
- `compatibility` and `speedup` find out whether trials can and should be stacked.
"""
