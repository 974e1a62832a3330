"""The model store: names to paths, directories that are absent or whole, and checkpoints from the hub.

The only package that turns a model's name into a path and a remote name into an address.
"""

from aipc.store.atomic import Writing, writing
from aipc.store.checked_file import CheckedFile
from aipc.store.hashing import FileHasher, FileRecord, Progress, hash_file
from aipc.store.integrity import Verification, verify
from aipc.store.library import StoredModel, find_stored, models, name_for, remove
from aipc.store.manifest import MANIFEST, Manifest, Origin, read_manifest
from aipc.store.names import model_path, validate_file_name, validate_model_name
from aipc.store.root import models_directory, store_root
from aipc.store.source import Source, is_guide, origin_of, resolve, usual_weights

__all__ = [
    "MANIFEST",
    "CheckedFile",
    "FileHasher",
    "FileRecord",
    "Manifest",
    "Origin",
    "Progress",
    "Source",
    "StoredModel",
    "Verification",
    "Writing",
    "find_stored",
    "hash_file",
    "is_guide",
    "model_path",
    "models",
    "models_directory",
    "name_for",
    "origin_of",
    "read_manifest",
    "remove",
    "resolve",
    "store_root",
    "usual_weights",
    "validate_file_name",
    "validate_model_name",
    "verify",
    "writing",
]
