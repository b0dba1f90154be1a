"""Training, from the inside out: one batch, one validation, one epoch, and the loop over epochs.
There are no callbacks: what you want otherwise, change here."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from time import perf_counter
from traceback import clear_frames

import torch
from torch import Tensor, distributed, nn
from torch.optim import Optimizer

from minifast.databunch import DataBunch
from minifast.loader import Batch, Loader
from minifast.metrics import Metric, Score, name_of, score
from minifast.recorder import Recorder
from minifast.tools import check, processes
from minifast.tools.progress import bar, minutes, print_row
from minifast.tools.seeds import seeded

Loss = Callable[[Tensor, Tensor], Tensor]                       # (logits, targets) -> 0-dim, a mean
Schedule = Callable[[int], tuple[list[float], float]]           # batch -> rate per group, momentum


def train_batch(model: nn.Module, batch: Batch, loss_func: Loss, optimizer: Optimizer,
                autocast: torch.autocast) -> Tensor:
    """Forward, loss, backward, optimizer step on a batch (x, y). Returns the loss, 0-dim, detached.

    Only the model runs under autocast; loss_func gets float32 logits: small differences count.
    With several processes the batch is this one's part, and the loss is the mean over all parts.
    """
    x, y = batch
    with autocast:
        logits = model(x)
    loss = loss_func(logits.float(), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return mean_of_processes(loss.detach())


def mean_of_processes(number: Tensor) -> Tensor:
    """The mean of a 0-dim tensor over the processes, on its device; alone, the number itself."""
    if processes.COUNT == 1:
        return number
    total = number.clone()
    distributed.all_reduce(total)
    return total / processes.COUNT


def dropout_key(loader: Loader) -> tuple[int, ...]:
    """The key of seeds.seeded for dropout in the loader's next epoch; each process has its own."""
    key = loader.seed, loader.epoch
    return (*key, processes.RANK) if processes.RANK else key


@contextmanager
def full_gpu(loader: Loader) -> Iterator[None]:
    """Inside, a full GPU raises ValueError that proposes half the batch size of a loader. What the
    broken computation held is let go of: a notebook keeps the last error with all its variables."""
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        clear_frames(error.__traceback__)
        knob = "bs" if loader.train else "val_bs"
        remedy = (f"try {knob}={loader.bs // 2}" if loader.bs > 1
                  else "try smaller pictures, transform(size=...)")
        raise ValueError(f"the GPU's memory is full, with {knob}={loader.bs}: {remedy}, or a "
                         f"smaller net. {error}") from error


def set_rates(optimizer: Optimizer, rates: Sequence[float], momentum: float) -> None:
    """Give the groups of an Adam optimizer their rates, and all the same momentum, Adam's beta1.
    Raises ValueError (zip's) where there are not as many rates as groups."""
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"], group["betas"] = rate, (momentum, group["betas"][1])


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Inside, the model is in eval mode (dropout off, BatchNorm by its running statistics), and no
    graph is kept; afterwards, also after an error, each layer is in the mode in which it came."""
    modes = [(layer, layer.training) for layer in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for layer, mode in modes:
            layer.training = mode


def outputs(model: nn.Module, loader: Loader, autocast: torch.autocast) -> Iterator[Batch]:
    """(logits, y) of each batch of a validation or test loader. The model runs under autocast, but
    logits are float32. For use inside `evaluating`."""
    for x, y in bar(loader, len(loader), "valid"):
        with autocast:
            logits = model(x)
        yield logits.float(), y


def scores(model: nn.Module, loader: Loader, loss_func: Loss, metrics: Sequence[Metric],
           autocast: torch.autocast) -> dict[str, Score]:
    """valid_loss and all metrics by name, exact over the loader's whole data set at any batch size.

    The loss of a batch, by loss_func, counts as often as it has pictures; NaN stays NaN. The model
    is `evaluating`, under autocast. Of several processes each sees the whole data set.
    """
    totals = {"valid_loss": Score(0, 0), **{name_of(function): Score(0, 0) for function in metrics}}
    with full_gpu(loader), evaluating(model):
        for logits, y in outputs(model, loader, autocast):
            totals["valid_loss"] += Score(loss_func(logits, y).double() * len(y), len(y))
            for function in metrics:
                totals[name_of(function)] += score(function, logits, y)
    return totals


def validate(model: nn.Module, loader: Loader, loss_func: Loss, metrics: Sequence[Metric],
             autocast: torch.autocast) -> dict[str, float]:
    """The values of scores(model, loader, loss_func, metrics, autocast), as floats by name."""
    totals = scores(model, loader, loss_func, metrics, autocast)
    return {name: float(total) for name, total in totals.items()}


def train_epoch(model: nn.Module, loader: Loader, loss_func: Loss, optimizer: Optimizer,
                schedule: Schedule, recorder: Recorder, autocast: torch.autocast) -> None:
    """One pass over the loader's batches: each trained on, and noted in the recorder.

    schedule  the rate of each layer group and the momentum at each batch of the latest fit, from 0
    model, loss_func, optimizer, autocast  see train_batch

    A loss that is not finite raises ValueError with the batch, its rates and files; model and
    optimiser are then as before the epoch. It may come up some batches late, since losses are read
    from the device only now and then. Ctrl-C stops the epoch; what was learned by then stays.
    """
    backup = deepcopy((model.state_dict(), optimizer.state_dict()))
    first = len(recorder.rates)                             # the number of this epoch's first batch

    def read_losses() -> str:
        broken = recorder.read_losses()
        if broken is not None:
            model.load_state_dict(backup[0])
            optimizer.load_state_dict(backup[1])
            raise ValueError(broken_loss(recorder, broken, loader, broken - first))
        return f"loss {recorder.train_loss():.4f}"

    model.train()
    trained = processes.parallel(model)
    try:
        with full_gpu(loader), seeded(*dropout_key(loader)):
            for batch in bar(loader, len(loader), "train", read_losses):
                rates, momentum = schedule(len(recorder.rates) - recorder.fits[-1])
                set_rates(optimizer, rates, momentum)
                loss = train_batch(trained, batch, loss_func, optimizer, autocast)
                recorder.add_batch(loss, rates, momentum)
    except BaseException:           # Ctrl-C, a broken file: what was learned by then is it sound?
        read_losses()
        raise
    for buffer in model.buffers() if processes.COUNT > 1 else ():
        distributed.broadcast(buffer, 0)            # BatchNorm's statistics: one model for all


def fit(model: nn.Module, data: DataBunch, loss_func: Loss, optimizer: Optimizer, epochs: int,
        schedule: Schedule, metrics: Sequence[Metric], recorder: Recorder,
        autocast: torch.autocast, done: int = 0,
        save: Callable[[int], None] | None = None) -> None:
    """Train for some epochs, validate after each, print a table, and note it all in the recorder.

    data    train_dl is trained on; loss and metrics are taken on valid_dl, unless that is None
    done    how many of the epochs were done before a stop: the recorder has them already, and the
            table shows them again
    save    where given, is told after each epoch how many are done
    errors  those of train_epoch, and ValueError where a training batch is a single picture
    model, loss_func, optimizer, schedule, autocast  see train_epoch
    """
    refuse_single_picture(model, data.train_dl)
    names = [] if data.valid_dl is None else ["valid_loss", *map(name_of, metrics)]
    columns = ["epoch", "train_loss", *names, "time"]
    print_row(columns, columns)

    def show(epoch: int, row: dict[str, float]) -> None:
        print_row([epoch, *(row[name] for name in columns[1:-1]), minutes(row["seconds"])], columns)

    if done == 0:
        recorder.fits.append(len(recorder.rates))
    for epoch, row in enumerate(recorder.epochs[len(recorder.epochs) - done:]):
        show(epoch, row)
    for epoch in range(done, epochs):
        started = perf_counter()
        train_epoch(model, data.train_dl, loss_func, optimizer, schedule, recorder, autocast)
        row = {"batch": len(recorder.losses), "train_loss": recorder.train_loss()}
        if data.valid_dl is not None:
            row |= validate(model, data.valid_dl, loss_func, metrics, autocast)
        row["seconds"] = perf_counter() - started
        recorder.epochs.append(row)
        show(epoch, row)
        if save is not None:
            save(epoch + 1)


def broken_loss(recorder: Recorder, batch: int, loader: Loader, number: int) -> str:
    """What to say of a loss that is not finite: where it came up, which is batch `batch` of the
    recorder and batch `number` of the loader's latest epoch, and what might help."""
    rates = ", ".join(f"{rate:g}" for rate in recorder.rates[batch])
    items = loader.item_numbers(loader.epoch - 1)[number]
    files = getattr(loader.dataset, "files", None)
    names = check.some([f"item {i}" if files is None else files[i] for i in items], len(items))
    return (f"the loss is {recorder.losses[batch]} at step {batch}, batch {number} of its epoch, "
            f"with learning rate {rates}; weights and optimiser are back where the epoch began. "
            f"Try a lower rate, or look for bad values in: {names}")


def refuse_single_picture(model: nn.Module, loader: Loader) -> None:
    """Raise ValueError where a batch of the training loader would have one picture, and the model a
    BatchNorm1d, which refuses it: the variance of one value is no use."""
    single = len(loader.item_numbers(0)[-1]) == processes.COUNT
    if single and any(isinstance(layer, nn.BatchNorm1d) for layer in model.modules()):
        raise ValueError(f"a training batch of one picture (bs={loader.bs}, {len(loader.dataset)} "
                         "pictures) cannot pass BatchNorm; give at least two pictures a batch")
