"""Write files so that nothing is lost: to a temporary name, then renamed; read them with a check.

What minifast saves is tensors and plain values, in torch's own format, followed by the SHA-256
digest of the file so far. torch.load does not mind the extra bytes, and does not notice most
flipped bits either: that is what the digest is for.
"""

from collections.abc import Callable
from hashlib import sha256
from io import BytesIO
import os
from pathlib import Path

import torch

DIGEST_BYTES = 32


def write_atomic(path: Path | str, content: bytes) -> Path:
    """Write content, bytes, to `path` so that a reader sees the old file or the new, never a half.

    The folder is made if needed. Where disk or folder refuse, OSError, and the old file stays.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # In the same folder, because a rename between two disks would be a copy; with the process
    # number, because two runs may write at once.
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())        # or a power cut could leave the new name on no bytes
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def save_tensors(path: Path | str, content: dict) -> Path:
    """Write a dict of tensors, plain values, lists and dicts to a file, atomically, with a digest.

    torch.load(path, weights_only=True) reads the file too. Raises ValueError, before anything is
    written, where the content has something else in it, which could not be loaded again.
    """
    buffer = BytesIO()
    torch.save(content, buffer)
    body = buffer.getvalue()
    unpickled(path, lambda: torch.load(BytesIO(body), "cpu", weights_only=True))
    return write_atomic(path, body + sha256(body).digest())


def load_tensors(path: Path | str) -> dict:
    """The dict that save_tensors wrote to `path`, on the CPU.

    Raises ValueError, with the file's name, where it is missing, truncated, altered or not ours.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path} does not exist; was it saved under another name or folder?")
    content = path.read_bytes()
    body, digest = content[:-DIGEST_BYTES], content[-DIGEST_BYTES:]
    if sha256(body).digest() != digest:
        raise ValueError(f"{path} was altered, cut short, or not written by minifast: its digest "
                         "does not match; save it again")
    return unpickled(path, lambda: torch.load(BytesIO(body), "cpu", weights_only=True))


def unpickled(path: Path | str, load: Callable[[], dict]) -> dict:
    """load(), with torch's many kinds of complaint turned into a ValueError that names `path`.

    Raises it too where what was loaded is no dict.
    """
    try:
        content = load()
    except Exception as error:              # torch and pickle complain in a dozen ways
        raise ValueError(f"{path} is no file of plain tensors: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, wanted a dict of tensors")
    return content
