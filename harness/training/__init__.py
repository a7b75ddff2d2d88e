"""Training: generators of records. They write no files, know no MLflow and call nothing back.

`setup.TrainingSetup` holds what a trial trains with, from `data` and `learning_rate`; `loop.train`
trains it, and yields records and `checkpoint.Checkpoint`s. `stacked` trains several trials at once.
"""
