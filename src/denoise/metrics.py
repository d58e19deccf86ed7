"""What a training reports, by the names that MLflow, Optuna's storage and the tables have."""

TRAIN_LOSS = "train/loss"
LEARNING_RATE = "train/lr"
VAL_LOSS = "val/loss"  # the objective of a search
TEST_LOSS = "test/loss"
FIRST_LOSS = "start/loss"  # val/loss before the first step, where weights are kept
CHECKPOINT_LOSS = "start/checkpoint_loss"  # of the network as it was read, nothing put in

DEAD = "health/dead_fraction"  # the mean over the layers
SATURATED = "health/saturated_fraction"
GRADIENT_RANGE = "health/gradient_range"  # log10 of the largest layer's gradient norm over the smallest one's
GENERALIZATION_GAP = "health/generalization_gap"

COST = "cost/"  # begins the name of each cost
PARAMETERS = "cost/parameters"
FLOPS_PER_STEP = "cost/flops_per_step"
PEAK_MEMORY_BYTES = "cost/peak_memory_bytes"
TRAINING_SECONDS = "cost/training_seconds"
STEP_SECONDS = "cost/step_seconds"
SAMPLES_PER_SECOND = "cost/samples_per_second"
GPU_UTILIZATION = "cost/gpu_utilization"

KERNEL_DISTANCE = "quality/kernel_distance"  # of drawn images to real test images
FRECHET_DISTANCE = "quality/frechet_distance"
PRECISION = "quality/precision"
RECALL = "quality/recall"
QUALITY = (KERNEL_DISTANCE, FRECHET_DISTANCE, PRECISION, RECALL)
