"""The denoiser: backbones, their blocks, the noise, the solver."""
