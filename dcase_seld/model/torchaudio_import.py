"""Makes `import torchaudio` work where its compiled extension cannot be loaded.

The torchaudio wheel of the package index links CUDA libraries. Beside a CPU build of torch its import raises OSError,
and so does every import of transformers that looks at torchaudio. Its Python parts (transforms, functional, models)
need no extension: they work once torchaudio believes that it was built without one.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types

_EXTENSION = "torchaudio._extension"


def ready_torchaudio() -> bool:
    """Return whether torchaudio can be imported, after telling it to do without its extension where that is broken.

    Call it before the first import of torchaudio, or of a transformers model. Calling it again costs nothing.
    """
    if "torchaudio" in sys.modules:
        return True
    if importlib.util.find_spec("torchaudio") is None:
        return False
    try:
        importlib.import_module("torchaudio")
    except OSError:
        for name in [name for name in sys.modules if name.split(".")[0] == "torchaudio"]:
            del sys.modules[name]
        sys.modules[_EXTENSION] = _absent_extension()
        importlib.import_module("torchaudio")
    return True


def _absent_extension() -> types.ModuleType:
    """Return what torchaudio's extension module holds in a build without compiled parts."""

    def fail_if_no_align(function: object) -> object:
        return function

    module = types.ModuleType(_EXTENSION)
    module.__dict__.update(
        _IS_TORCHAUDIO_EXT_AVAILABLE=False,
        _IS_ALIGN_AVAILABLE=False,
        fail_if_no_align=fail_if_no_align,
        _check_cuda_version=lambda: None,
    )
    return module
