"""A diffusion denoiser whose every component is an option, and the training of one of its configs."""
