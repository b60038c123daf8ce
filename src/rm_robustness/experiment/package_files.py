"""Files that an installed package has too: the presets, their schema, the paper's numbers."""

from pathlib import Path

PACKAGE = Path(__file__).parents[1]


def package_file(name: str) -> Path:
    """Path of a file or folder of the repository that a wheel also has (MANIFEST.in lists them).

    `name` is its path in the repository: `config/small.yaml`. In a checkout it is the repository's
    own, in a wheel the package's.
    """
    installed = PACKAGE / "repository"
    return (installed if installed.is_dir() else PACKAGE.parents[1]) / name
