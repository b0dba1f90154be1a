"""What a model says: of a whole data set, of one file, and, to look at, beside the truth."""

from collections.abc import Sequence

from PIL import Image
import torch
from torch import Tensor, nn
import torch.nn.functional as F

from minifast.databunch import DataBunch
from minifast.images import File, image_size, open_image, scaled_size
from minifast.loader import Loader, normalize
from minifast.targets import Masks, Target
from minifast.tools import check, draw
from minifast.training import evaluating, full_gpu, outputs


def get_preds(model: nn.Module, loader: Loader, target: Target,
              autocast: torch.autocast) -> tuple[Tensor, Tensor]:
    """(probabilities, targets) of all items of a loader, in order, on the CPU.

    The model runs under autocast; `target` (Categories, Tags or Masks) turns logits into
    probabilities. Shapes: (n, c) and (n) for categories, (n, c) and (n, c) for tags, (n, c, h, w)
    and (n, h, w) for masks; without labels targets are (n, 0). All of it is kept in memory.
    Raises ValueError where batches of masks differ in size.
    """
    with full_gpu(loader), evaluating(model):
        batches = [(target.probabilities(logits).cpu(), y.cpu())
                   for logits, y in outputs(model, loader, autocast)]
    if len({likely.shape[1:] for likely, _ in batches}) > 1:
        raise ValueError("pictures differ in size: give transform(size=...), or predict each file")
    return tuple(torch.cat(parts) for parts in zip(*batches))


def predict(model: nn.Module, data: DataBunch, file: File, thresh: float | Tensor,
            autocast: torch.autocast) -> tuple[str, Tensor, Tensor]:
    """(caption, decision, probabilities) of a picture, as v1's predict returns them.

    data    size and method are those of its train_ds, where that has any, else the picture keeps
            its own size; it is normalized as they are, and not transformed
    file    of the picture; or a picture that you opened with Pillow
    thresh  for tags: above it the answer is yes; a number, or one for each tag

    The decision is 0-dim for categories, (c) for tags, (H, W) for masks, the probabilities are (c),
    or (c, H, W), all on the CPU. H and W are the picture's own: for masks it is scaled as for
    training with nothing cut off or added, and the model's logits, under autocast, back bilinearly.
    Raises ValueError, naming the file, where it cannot be read.
    """
    target, loader, dataset = data.need("target"), data.train_dl, data.train_ds
    size, method = getattr(dataset, "size", None), getattr(dataset, "method", "crop")
    is_mask = isinstance(target, Masks)
    if is_mask and size is not None:
        size, method = scaled_size(image_size(file), size, method), "squish"
    picture = open_image(file, size, method)
    x = picture[None].to(loader.device) / 255                                       # (1, 3, h, w)
    with full_gpu(loader), evaluating(model), autocast:
        logits = model(normalize(x, loader.stats) if loader.stats else x).float()   # (1, c[, h, w])
    if is_mask:
        logits = F.interpolate(logits, image_size(file), mode="bilinear")           # (1, c, H, W)
    probabilities = target.probabilities(logits).cpu()
    decision = target.decisions(probabilities, thresh)[0]
    return target.caption(decision), decision, probabilities[0]


def show_results(model: nn.Module, data: DataBunch, rows: int, thresh: float | Tensor,
                 void_code: int | None, autocast: torch.autocast,
                 items: Sequence[int] | None = None) -> Image.Image:
    """Validation pictures of `data` beside the truth and what the model says.

    rows       of masks; else there are rows x rows pictures, with captions `truth / prediction`
    thresh     for tags: above it the answer is yes
    void_code  for masks: a class of the truth whose pixels are never marked as wrong
    items      the numbers of the pictures; None: evenly spread ones, i * total // n

    There are n pictures, or all, where there are fewer; of `items` the first n. The model sees them
    under autocast. A row of masks is, and says below: picture, truth, prediction, difference, which
    is red; a legend has all classes that are in truth or prediction.
    """
    check.between("rows", rows, 1)
    target, loader = data.need("target"), data.need("valid_dl")
    is_mask, total = isinstance(target, Masks), len(loader.dataset)
    most = rows if is_mask else rows ** 2
    n = min(most, total)
    x, y = loader.one_batch([i * total // n for i in range(n)] if items is None else items[:most])
    with full_gpu(loader), evaluating(model), autocast:
        logits = model(x).float()
    x, y, said = x.cpu(), y.cpu(), target.decisions(target.probabilities(logits).cpu(), thresh)
    pictures = data.pictures(x)
    if not is_mask:
        captions = [f"{target.caption(truth)} / {target.caption(answer)}"
                    for truth, answer in zip(y, said)]
        return draw.grid(pictures, captions, rows)
    cells = []
    for picture, truth, answer in zip(pictures, y, said):
        wrong = (truth != answer) & (truth != (-1 if void_code is None else void_code))
        cells += [picture, draw.overlay(picture, truth), draw.overlay(picture, answer),
                  in_red(picture, wrong)]
    sheet = draw.grid(cells, ["picture", "truth", "prediction", "difference"] * len(y), columns=4)
    return draw.with_legend(sheet, target.names_in(torch.cat([y, said])))


def in_red(picture: Image.Image, where: Tensor) -> Image.Image:
    """A picture in grey, half way to white, and #ff0000 where `where`, (h, w) bool, is true."""
    white = Image.new("RGB", picture.size, "white")
    pale = Image.blend(picture.convert("L").convert("RGB"), white, 0.5)
    pale.paste("#ff0000", mask=Image.fromarray(where.numpy()))
    return pale
