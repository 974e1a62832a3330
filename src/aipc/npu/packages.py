"""The extra that this package needs: PyTorch and transformers."""

from __future__ import annotations

from importlib import import_module

from aipc.errors import MissingPackageError

INSTALL = 'pip install "aipc[hf]"'


def check_packages() -> None:
    """Import PyTorch and transformers. Raises `MissingPackageError`."""
    for name in ("torch", "transformers"):
        try:
            import_module(name)
        except (ImportError, OSError) as error:  # OSError: a library that PyTorch loads itself
            raise MissingPackageError(
                f"{name} cannot be imported", found=str(error) or type(error).__name__, try_next=INSTALL
            ) from error
