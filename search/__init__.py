"""Search over the catalogue of components: Optuna proposes, denoise trains, MLflow remembers."""

__version__ = "0.1.0"  # the one place: the package's metadata, --version and the image's label are read from here
