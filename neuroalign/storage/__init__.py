"""Results on disk: written whole or not at all, checked when read, found again by content."""

from neuroalign.storage.atomic import publish, write_bytes, write_json, write_text
from neuroalign.storage.cache import Cache
from neuroalign.storage.grow import append
from neuroalign.storage.keys import content_key, sha256_file, step_key
from neuroalign.storage.manifest import verify, write_manifest
from neuroalign.storage.store import is_store, open, save

__all__ = [
    "Cache",
    "append",
    "content_key",
    "is_store",
    "open",
    "publish",
    "save",
    "sha256_file",
    "step_key",
    "verify",
    "write_bytes",
    "write_json",
    "write_manifest",
    "write_text",
]
