"""The attributes that Optuna's trials and studies have. A file that reads or writes one takes its name from here."""

from enum import StrEnum


class OfTrial(StrEnum):
    """What an attribute of a trial is called."""

    OVERRIDES = "overrides"  # they train it again
    FURTHER = "further"  # those of a known start that no domain holds: the sampler does not see them
    ARM = "arm"  # of an ablation
    ROUND = "round"  # of an ablation
    MIGRATED = "carried"  # the run of another search whose result it has

    WORKER = "worker"  # the process that is at it: host, pid, when it began
    BEAT = "beat"  # when its worker said last that it lives, in seconds since 1970
    DIED_AT = "died_at"  # which processes died at it, after which reported step, and how
    DECIDED = "decided"  # the last step at which the pruner was asked

    CONFIG_SHA256 = "config_sha256"
    CODE = "code"  # twelve digits that name the content of src/denoise
    RUN_ID = "run_id"  # its run in MLflow
    OUTCOME = "outcome"  # complete, pruned, or the kind of its failure
    STEPS = "steps"  # what it used of each budget
    FLOPS = "flops"
    SECONDS = "seconds"


class OfStudy(StrEnum):
    """What an attribute of a study is called."""

    DIVISION = "division"  # threads of a process, lag
    FAMILY = "family"  # what else than the space names its question; written last when a search begins
    SPACE = "space"
    CODE = "code"
    OPENED = "opened"  # in seconds since 1970
    MIGRATES = "carries"  # what was taken over from another study, a sentence
    PACE = "pace"  # seconds that a step of the baseline takes, where trials have equal time
    ASKED = "asked"  # what was typed for its search, where workers may join it; None once it has ended
