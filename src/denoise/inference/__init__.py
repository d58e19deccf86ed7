"""A trained denoiser outside a training: loaded from a run, a registered model or a folder, and drawn from."""
