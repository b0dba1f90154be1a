"""Write files whole or not at all, and notice when one was altered."""

from hashlib import sha256
from io import BytesIO
import os
from pathlib import Path

import torch

from minifast.tools import check, processes


def write_atomic(path: Path | str, content: bytes) -> Path:
    """Write bytes to a file, in a folder made if needed, and return its path. After an error the
    old file is still there. Of several processes only the first one writes."""
    path = Path(path)
    if processes.RANK > 0:
        return path
    # The dot hides it from lists of pictures. The process number is for two runs at once.
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())         # or a power cut could leave an empty file
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def refuse_existing(path: Path | str, remedy: str, overwrite: bool = False) -> None:
    """Raise ValueError if `path` exists, unless overwrite is true."""
    if Path(path).exists() and not overwrite:
        raise ValueError(f"{path} exists already, and stays as it is; {remedy}")


def save_tensors(path: Path | str, content: dict) -> Path:
    """Write a dict of tensors and plain values in torch's format, and return the path. A SHA-256
    digest follows, since torch.load by itself notices few flipped bits."""
    buffer = BytesIO()
    torch.save(content, buffer)
    buffer.write(sha256(buffer.getbuffer()).digest())
    processes.wait_for_all()                # until all are past refuse_existing
    write_atomic(path, buffer.getbuffer())
    processes.wait_for_all()                # until it is there for all
    return Path(path)


def load_tensors(path: Path | str, digest: bool = True) -> dict:
    """The dict in a file of save_tensors or, with digest=False, of torch.save, on the CPU. Raises
    ValueError if the file is missing, altered, or holds code, which is not run."""
    check.exists("file", Path(path), "was it saved under another name or folder?")
    content = Path(path).read_bytes()
    if digest and sha256(memoryview(content)[:-32]).digest() != content[-32:]:
        raise ValueError(f"{path} was altered, cut short or not written by minifast: save it again")
    try:
        return dict(torch.load(BytesIO(content), "cpu", weights_only=True))
    except Exception as error:              # torch raises many types of error
        raise ValueError(f"{path} is damaged, or no dict of tensors and plain values") from error
