"""What pyproject.toml cannot say: a wheel also has the folders that MANIFEST.in lists."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithFolders(build_py):
    """Copy the folders into the package. An editable install reads them where they are."""

    def run(self) -> None:
        """Build the package, then copy; experiment/package_files.py finds them."""
        super().run()
        if not self.editable_mode:
            for line in Path("MANIFEST.in").read_text(encoding="utf-8").splitlines():
                folder = line.removeprefix("graft ")
                target = Path(self.build_lib, "rm_robustness", "repository", folder)
                shutil.rmtree(target, ignore_errors=True)
                shutil.copytree(folder, target)


setup(cmdclass={"build_py": BuildWithFolders})
