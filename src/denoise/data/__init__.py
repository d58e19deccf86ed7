"""Data sets: each module loads one family of them into memory as `Images`."""

from denoise.data.images import Images, load

__all__ = ["Images", "load"]
