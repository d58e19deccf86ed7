"""What pyproject.toml cannot say: the packages lie in two folders, and conf/ travels as denoise/conf."""

from tempfile import TemporaryDirectory

from setuptools import find_packages, setup

with TemporaryDirectory() as build:  # one that stays would put into a wheel what has been deleted since
    setup(
        packages=[*find_packages("src"), *find_packages(include=["search", "search.*"]), "denoise.conf"],
        package_dir={"denoise": "src/denoise", "denoise.conf": "conf"},
        options={"build": {"build_base": build}},
    )
