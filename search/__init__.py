"""Search over the catalogue of components: Optuna proposes, denoise trains, MLflow remembers."""
