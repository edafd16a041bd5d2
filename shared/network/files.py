"""Files replaced as a whole: whoever reads one sees the old or the new, never half of it."""

import os
import tempfile
from pathlib import Path


def replace(file: Path, content: bytes, mode: int) -> None:
    with tempfile.NamedTemporaryFile(dir=file.parent, prefix=f".{file.name}.", delete=False) as new:
        new.write(content)
        new.flush()
        os.fsync(new.fileno())
    Path(new.name).chmod(mode)
    Path(new.name).replace(file)
