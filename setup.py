"""Everything is in setup.cfg; this adds the recipes of the top level to the wheel, as dcase_seld/recipes."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithRecipes(build_py):
    """Copies recipes/ into the package; in an editable installation they are found where they are."""

    def run(self) -> None:
        """Build the package, then copy the recipes."""
        super().run()
        if not getattr(self, "editable_mode", False):
            for source, target in self._recipes():
                self.mkpath(str(target.parent))
                self.copy_file(str(source), str(target), preserve_mode=False)

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        """Return all files that are made, the recipes among them."""
        return [*super().get_outputs(include_bytecode), *(str(target) for _, target in self._recipes())]

    def _recipes(self) -> list[tuple[Path, Path]]:
        folder = Path(__file__).parent / "recipes"
        target = Path(self.build_lib) / "dcase_seld" / "recipes"
        return [(source, target / source.relative_to(folder)) for source in sorted(folder.rglob("*.yaml"))]


setup(cmdclass={"build_py": BuildWithRecipes})
