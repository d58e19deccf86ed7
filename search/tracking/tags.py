"""The tags of a run in MLflow. A file that reads or writes one takes its name from here."""

from enum import StrEnum

SAMPLES = "samples"  # the key of a training's pictures in MLflow's grid of images


class Tag(StrEnum):
    """What a tag of a run is called."""

    PARENT = "mlflow.parentRunId"  # the run of the search that it belongs to
    SOURCE = "mlflow.source.name"
    NOTE = "mlflow.note.content"  # the description on its page, in markdown
    IMAGES = "mlflow.loggedImages"  # whether its page has a grid of images by step
    ROLE = "role"  # search, trial, confirm, transfer, train, reproduce
    CODE = "code"  # twelve digits that name the content of src/denoise
    MACHINE = "machine"  # processor, threads, releases, as JSON
    PROCESS = "process"  # which one trains it, as JSON

    # of a search
    STUDY = "study"
    BASELINE = "baseline"  # the overrides of trial 0, as JSON
    PLACES = "places"  # of each searched place, how often the baseline's network has it, as JSON
    COST = "cost"  # the metric that quality is weighed against
    STARTS = "starts"
    TYPED = "typed"  # the overrides that asked for it, as JSON
    CONFIRMED = "confirmed"  # how many finalists are better, worse, open
    BEST = "best"  # the run to take
    MODEL = "registered_model"  # of its question

    # of a training
    OVERRIDES = "overrides"  # as JSON; they train it again
    CONFIG_SHA256 = "config_sha256"
    DATA_SHA256 = "data_sha256"
    INITIALIZER_SHA256 = "initializer_sha256"  # of the files that its weights started from
    WEIGHTS_SHA256 = "weights_sha256"
    WEIGHTS_AT = "weights_at"  # what names its weights at some steps, as JSON: {"40": "0f3a..."}
    OUTCOME = "outcome"  # complete, pruned, failed
    STEP = "step"  # the last one
    FAILURE = "failure"  # one line
    FAILURE_KIND = "failure_kind"  # diverged, out_of_memory, cap, ...
    FAILURE_LAYER = "failure_layer"
    TRIAL = "trial"  # its number
    DUPLICATE_OF = "duplicate_of"  # the run of the same config whose result it has
    MIGRATED_FROM = "carried_from"  # the run of another search whose result it has
    ANEW = "written_anew_for"  # the run that was lost, for which this one stands
    CORRECTED = "corrected"  # outcome and value that it had, where Optuna's storage said otherwise
    CONFIRMS = "confirms"  # the run of the trial whose config is trained on another seed
    SEED = "seed"
    DIFFERS = "differs"  # from the baseline, in words
    TRANSFERS = "transfers"  # the run of the trial whose config is trained at another width
    REPRODUCES = "reproduces"  # the run that is done again
