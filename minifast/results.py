"""What a model says: about a whole data set, about one picture, and side by side with the truth.
`learn` is a Learner, or anything else that has a model, data and autocast."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from traceback import clear_frames

from PIL import Image
import torch
from torch import Tensor, nn
import torch.nn.functional as F

from minifast.images import File, image_size, open_image, scaled_size
from minifast.loader import Loader, normalize
from minifast.targets import Masks
from minifast.tools import draw, progress


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Inside, no gradients are kept, dropout is off, and BatchNorm uses its running statistics."""
    modes = [(layer, layer.training) for layer in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for layer, mode in modes:           # one by one, since a frozen part may be in eval mode
            layer.training = mode


@contextmanager
def full_gpu(loader: Loader) -> Iterator[None]:
    """Inside, a full GPU raises ValueError, which proposes half of the loader's batch size."""
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        clear_frames(error.__traceback__)       # a notebook keeps errors, and these their tensors
        knob = "bs" if loader.train else "val_bs"
        smaller = f"{knob}={loader.bs // 2} or " if loader.bs > 1 else ""
        raise ValueError(f"the GPU's memory is full with {knob}={loader.bs}; try {smaller}smaller "
                         f"pictures. {error}") from error


def outputs(learn: object, loader: Loader) -> Iterator[tuple[Tensor, Tensor]]:
    """(logits, targets) of each batch of validation or test, the logits in float32."""
    for x, y in progress.bar(loader, len(loader), "valid"):
        with learn.autocast:
            logits = learn.model(x)
        yield logits.float(), y


def get_preds(learn: object, loader: Loader) -> tuple[Tensor, Tensor]:
    """(probabilities, targets) of all items, in order, on the CPU: (n, c) and (n) for categories,
    twice (n, c) for tags, (n, c, h, w) and (n, h, w) for masks; targets (n, 0) without labels."""
    target = learn.data.need("target")
    with full_gpu(loader), evaluating(learn.model):
        batches = [(target.probabilities(logits).cpu(), y.cpu())
                   for logits, y in outputs(learn, loader)]
    return tuple(torch.cat(parts) for parts in zip(*batches))


def predict(learn: object, file: File, thresh: float | Tensor = 0.5) -> tuple[str, Tensor, Tensor]:
    """(caption, decision, probabilities) of one picture: a file, or a picture opened with Pillow.
    thresh is for tags: a number, or one for each tag.

    Shapes: 0-dim and (c) for categories, (c) and (c) for tags, (H, W) and (c, H, W) for masks. H, W
    are the picture's own: nothing is cut off before, and the logits are resized to them.
    """
    target, loader, dataset = learn.data.need("target"), learn.data.train_dl, learn.data.train_ds
    size, method = getattr(dataset, "size", None), getattr(dataset, "method", "crop")
    is_mask = isinstance(target, Masks)
    if is_mask and size is not None:
        size, method = scaled_size(image_size(file), size, method), "squish"    # cut nothing off
    x = open_image(file, size, method)[None].to(loader.device) / 255            # (1, 3, h, w)
    with full_gpu(loader), evaluating(learn.model), learn.autocast:
        logits = learn.model(normalize(x, loader.stats) if loader.stats else x).float()
    if is_mask:
        logits = F.interpolate(logits, image_size(file), mode="bilinear")       # (1, c, H, W)
    probabilities = target.probabilities(logits).cpu()
    decision = target.decisions(probabilities, thresh)[0]
    return target.caption(decision), decision, probabilities[0]


def show_results(learn: object, rows: int = 3, thresh: float | Tensor = 0.5,
                 items: Sequence[int] | None = None) -> Image.Image:
    """Validation pictures, rows x rows, captioned `truth / prediction`; for masks `rows` rows of
    truth and prediction, laid over them. items are their numbers; None: evenly spread ones."""
    target, loader = learn.data.need("target"), learn.data.need("valid_dl")
    is_mask, total = isinstance(target, Masks), len(loader.dataset)
    n = min(rows if is_mask else rows ** 2, total)
    x, y = loader.one_batch([i * total // n for i in range(n)] if items is None else items[:n])
    with full_gpu(loader), evaluating(learn.model), learn.autocast:
        logits = learn.model(x).float()
    y, said = y.cpu(), target.decisions(target.probabilities(logits).cpu(), thresh)
    pictures = learn.data.pictures(x)
    if not is_mask:
        captions = [f"{target.caption(truth)} / {target.caption(answer)}"
                    for truth, answer in zip(y, said)]
        return draw.grid(pictures, captions, rows)
    cells = [draw.overlay(picture, mask) for picture, truth, answer in zip(pictures, y, said)
             for mask in (truth, answer)]
    sheet = draw.grid(cells, ["truth", "prediction"] * len(y), columns=2)
    return draw.with_legend(sheet, target.names_in(torch.cat([y, said])))
