"""What a comparison needs of a plan, as plain data: it is stored with the run of a sweep, so that
its experiment file can be compared without running the code that the file names."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from harness.core.errors import InputError
from harness.core.metrics import Direction, Goal
from harness.experiment.experiment import Expectation
from harness.experiment.plan import Plan

FORMAT: Final = 1
LONGEST: Final = 16 * 2**20
"""Characters of a stored plan; 100,000 trials take some 2 million."""

Id = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{1,64}$")]
ShortText = Annotated[str, StringConstraints(max_length=1000)]


class PlanSummary(BaseModel):
    """The trials of a plan by their ids, and how they are compared.

    file, sha256, overrides: the experiment file's name, its checksum, and what the command line
        changed of it.
    is_search: whether the file has a `search:` block.
    code: the identity of each file and module of a user's code that the experiment file names.
    trials: the ids of trials, by the checksum of their data set and by their config's id.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format: Literal[1] = FORMAT
    file: ShortText
    sha256: ShortText
    overrides: tuple[ShortText, ...]
    metric: ShortText
    direction: Direction
    target: float | None
    is_search: bool
    expect: tuple[Expectation, ...]
    code: Mapping[ShortText, Id] = {}
    trials: Mapping[ShortText, Mapping[Id, list[Id]]]

    @classmethod
    def of(cls, plan: Plan) -> PlanSummary:
        """Returns the summary of a plan."""
        trials: dict[str, dict[str, list[str]]] = {}
        for planned in plan.trials:
            of_data = trials.setdefault(planned.fingerprint.data, {})
            of_data.setdefault(planned.config_id, []).append(planned.trial_id)
        experiment = plan.experiment
        return cls.model_construct(
            file=experiment.path.name,
            sha256=experiment.sha256,
            overrides=experiment.overrides,
            metric=experiment.metric,
            direction=experiment.direction,
            target=experiment.target,
            is_search=experiment.search is not None,
            expect=experiment.expect,
            code=experiment.source.identities,
            trials=trials,
        )

    @classmethod
    def parse(cls, text: str) -> PlanSummary:
        """Returns what `to_json` wrote. Raises InputError for any other text, whatever it is."""
        if len(text) > LONGEST:
            raise InputError(f"it has more than {LONGEST:,} characters")
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            place = ".".join(map(str, first["loc"][:2]))[:100]
            raise InputError(": ".join(filter(None, (place, first["msg"][:200])))) from None

    def to_json(self) -> str:
        """Returns one line of JSON, some 20 characters a trial."""
        return self.model_dump_json()

    @property
    def goal(self) -> Goal:
        """The metric that trials are selected on, with its direction and target."""
        return Goal(self.metric, self.direction, self.target)

    @cached_property
    def data(self) -> Mapping[str, str]:
        """The checksum of its data set, by the id of each trial."""
        return {
            trial: checksum
            for checksum, configs in self.trials.items()
            for trials in configs.values()
            for trial in trials
        }

    @cached_property
    def seeds(self) -> Mapping[str, int]:
        """How many trials each config has, by its id."""
        counts: dict[str, int] = {}
        for configs in self.trials.values():
            for config, trials in configs.items():
                counts[config] = counts.get(config, 0) + len(trials)
        return counts
