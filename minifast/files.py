"""Write files so that nothing is lost: to a temporary name, then renamed; read them with a check.

What minifast saves is tensors and plain values, in torch's own format, followed by the SHA-256
digest of the file so far. torch.load does not mind the extra bytes, and does not notice most
flipped bits either: that is what the digest is for.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from io import BytesIO
import os
from pathlib import Path
from pickle import UnpicklingError
import re

from PIL import Image
import torch

from minifast import processes

DIGEST_BYTES = 32


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Yield a temporary name in the folder of `path`, with its suffix; what was written there is in
    the end renamed to `path`: so a reader sees the old file or the new, never a half.

    The folder is made if needed, and the temporary file is gone, also after an error. Where disk or
    folder refuse, OSError (of the same errno) that names `path`; the old file is as it was.
    Of several processes, each of which writes the same, only the first one's file gets the name.
    """
    path = Path(path)
    # In the same folder, because a rename between two disks would be a copy; with the process
    # number, because two runs may write at once; hidden, so that no folder of pictures has it.
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            if processes.rank() == 0:
                os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        text = (f"{path} cannot be written: {error.strerror or error}. What was there is as it "
                "was; free some space, or choose another folder")
        # The errno decides the class: FileNotFoundError, PermissionError, ...
        raise (OSError(text) if error.errno is None else OSError(error.errno, text)) from error


def write_atomic(path: Path | str, content: bytes) -> Path:
    """Write content, bytes, to `path`, and return that: whole or not at all, see `replacing`. The
    bytes are on the disk (os.fsync) before the name is theirs."""
    with replacing(path) as temporary, open(temporary, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())            # or a power cut could leave the new name on no bytes
    return Path(path)


def save_picture(path: Path | str, picture: Image.Image, quality: int = 90) -> Path:
    """Write a picture to `path`, in the format of its suffix, and return that: whole or not at all,
    see `replacing`. quality is that of a JPEG, 1..95; PNGs are packed fast, not small."""
    with replacing(path) as temporary:
        picture.save(temporary, quality=quality, compress_level=1)
    return Path(path)


def refuse_existing(path: Path | str, remedy: str, overwrite: bool = False) -> None:
    """Raise ValueError, with a remedy, where there is something at `path`, unless overwrite is
    true: nobody's work is to be overwritten unasked. All processes do as the first one finds."""
    if not overwrite and processes.first_says(Path(path).exists()):
        raise ValueError(f"{path} exists already, and stays as it is; {remedy}")


def save_tensors(path: Path | str, content: dict) -> Path:
    """Write a dict of tensors, plain values, lists and dicts to a file, atomically, with a digest.

    torch.load(path, weights_only=True) reads the file too. Raises ValueError, before anything is
    written, where the content has something else in it, which could not be loaded again. Of several
    processes, all of which have to call this, the first writes; then all find the file.
    """
    buffer = BytesIO()                      # may be hundreds of megabytes: so it is not copied
    torch.save(content, buffer)
    digest = sha256(buffer.getbuffer()).digest()
    buffer.seek(0)
    unpickled(path, lambda: torch.load(buffer, "cpu", weights_only=True))
    buffer.seek(0, os.SEEK_END)
    buffer.write(digest)
    with processes.first_goes_ahead():
        if processes.rank() == 0:
            write_atomic(path, buffer.getbuffer())
    return Path(path)


def load_tensors(path: Path | str) -> dict:
    """The dict that save_tensors wrote to `path`, on the CPU.

    Raises ValueError, with the file's name, where it is missing, truncated, altered or not ours.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path} does not exist; was it saved under another name or folder?")
    content = path.read_bytes()
    if sha256(memoryview(content)[:-DIGEST_BYTES]).digest() != content[-DIGEST_BYTES:]:
        raise ValueError(f"{path} was altered, cut short, or not written by minifast: its digest "
                         "does not match; save it again")
    return unpickled(path, lambda: torch.load(BytesIO(content), "cpu", weights_only=True))


def unpickled(path: Path | str, load: Callable[[], dict]) -> dict:
    """load(), with torch's many kinds of complaint turned into a ValueError that names `path`.

    The text of an UnpicklingError is left out, as it advises to load the file all the same, which
    would run code in it; only what was met, the word after GLOBAL there, is named, if there is one.
    Raises ValueError too where what was loaded is no dict.
    """
    try:
        content = load()
    except UnpicklingError as error:
        met = re.search(r"GLOBAL (\S+)", str(error))
        raise ValueError(f"{path} is no file of plain tensors and values: there is "
                         f"{met[1] if met else 'something else'} in it, which is code that "
                         "minifast neither loads nor saves") from error
    except Exception as error:              # torch complains in a dozen ways
        raise ValueError(f"{path} is no file of plain tensors: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, wanted a dict of tensors")
    return content
