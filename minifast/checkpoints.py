"""A learner as a file: to go back to, to go on from after the power was cut, to predict with.

What is in such a file is tensors and plain values, see files.save_tensors.
"""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from minifast.databunch import DataBunch
from minifast.recorder import Recorder
from minifast.tools import check
from minifast.tools.files import load_tensors, refuse_existing, save_tensors

EXPORTED = "a model for minifast.inference"


def read_state(file: Path | str, mine: dict) -> dict:
    """What Learner.save wrote to a file: a dict that fits a learner whose state is `mine` now. The
    classes, in order, groups, and names and shapes of weights must be the same.

    Raises ValueError, naming the file, where it is unreadable or no saved learner, or does not fit.
    """
    saved = load_tensors(file)
    if not set(mine) <= set(saved):
        raise ValueError(f"{file} was not written by learn.save; of learn.export? Then "
                         "inference.load_learner reads it")
    for name in ("classes", "groups"):
        if saved[name] != mine[name]:
            raise ValueError(f"{file} has {name} {saved[name]}, this learner has {mine[name]}")
    same_weights(file, saved["model"], mine["model"])
    return saved


def same_weights(source: object, have: dict[str, Tensor], want: dict[str, Tensor]) -> None:
    """Raise ValueError, naming source and parameters, unless `have`, the tensors by name from that
    source, and `want`, those of the model, agree in all names and shapes."""
    shapes = [{name: getattr(value, "shape", None) for name, value in weights.items()}
              for weights in (have, want)]
    wrong = [name for name in {**have, **want} if shapes[0].get(name) != shapes[1].get(name)]
    if wrong:
        raise ValueError(f"the weights of {source} do not fit this model: {len(wrong)} are "
                         f"missing, unknown or of another shape: {check.some(wrong)}")


def report(saved: dict, with_opt: bool, frozen_to: int) -> str:
    """What Learner.load says: of what is `saved` in a file (read_state), what it restored.

    with_opt   whether optimiser and freeze state are among that
    frozen_to  the learner's own freeze state before: the first layer group that trains

        restored 5 weights, optimiser (8 entries), freeze state (groups from 0 on train; before,
            from 2 on)                                      (no `before` where it was the same)
        restored 5 weights; not restored: optimiser (8 entries), freeze state (in the file, groups
            from 0 on train; here, from 2 on)
    """
    begin = f"restored {len(saved['model'])} weights"
    rest = f"optimiser ({len(saved['optimizer']['state'])} entries), freeze state "
    trains = f"groups from {saved['frozen_to']} on train"
    if not with_opt:
        return f"{begin}; not restored: {rest}(in the file, {trains}; here, from {frozen_to} on)"
    before = "" if frozen_to == saved["frozen_to"] else f"; before, from {frozen_to} on"
    return f"{begin}, {rest}({trains}{before})"


def restore_optimizer(optimizer: Optimizer, state: dict) -> None:
    """Put a saved state (Optimizer.state_dict) into an optimizer of the same layer groups. Moments,
    Adam's running averages, lie in memory as their parameters do, channels_last or not."""
    optimizer.load_state_dict(state)
    for parameter, values in optimizer.state.items():
        for name, value in values.items():
            # AdamW's fused kernel wants a moment to lie in memory as its parameter does, which
            # channels_last changes; torch keeps the layout of the file.
            if value.shape == parameter.shape:
                values[name] = torch.empty_like(parameter).copy_(value)


def save_checkpoint(file: Path | str, state: dict, recorder: Recorder, next_epoch: int, plan: dict,
                    done: int) -> None:
    """Write to a file what a fit needs to go on: Learner.load reads it, too.

    state       what Learner.save writes
    recorder    of it losses, rates, momenta, fits and epochs, as "history"
    next_epoch  the number that the training loader gives its next epoch
    plan, done  the settings of the fit, by name; and how many of its epochs are done
    """
    history = {name: getattr(recorder, name)
               for name in ("losses", "rates", "momenta", "fits", "epochs")}
    save_tensors(file, {**state, "history": history, "next_epoch": next_epoch, "plan": plan,
                        "done": done})


def open_checkpoint(file: Path | str | None, plan: dict, resume: bool) -> dict | None:
    """What a fit goes on from: read_checkpoint(file, plan), where the file is there, else None.

    Raises ValueError where the file is there and resume is False, or resume is True and file None;
    and as read_checkpoint does.
    """
    if file is None:
        if resume:
            raise ValueError("resume=True goes on from a file: give checkpoint=FILE, too")
        return None
    if not resume:
        refuse_existing(file, "resume=True goes on from it; or name another file")
    return read_checkpoint(file, plan) if Path(file).exists() else None


def read_checkpoint(file: Path | str, plan: dict) -> dict:
    """What save_checkpoint wrote to a file, for a fit with the same plan.

    Raises ValueError, naming the file, where it is unreadable or no checkpoint, or of a fit with
    another plan: what differs, there and here.
    """
    saved = load_tensors(file)
    if "plan" not in saved:
        raise ValueError(f"{file} is no checkpoint: fit_one_cycle(..., checkpoint=...) writes one")
    differs = [f"{name} {saved['plan'].get(name)} there, {value} here"
               for name, value in (dict.fromkeys(saved["plan"]) | plan).items()
               if saved["plan"].get(name) != value]
    if differs:
        raise ValueError(f"{file} is of another fit: {'; '.join(differs)}. Go on as it began, or "
                         "name another file")
    return saved


def export(file: Path | str, model: nn.Module, data: DataBunch, thresh: float | Tensor) -> Path:
    """Write to a file all that inference.load_learner needs; returns its path.

    model   its attribute `recipe` says how to make it anew: vision.build; without one that is
            {"kind": "own", "arch": the name of its class}
    data    gives classes and kind of target; size and method of its train_ds, if that has any; and
            statistics
    thresh  for tags: above it the answer is yes; a number, or one for each tag; saved as float32

    numpy's strings and numbers become plain ones. Raises ValueError where the classes are unknown,
    or thresh has another number than one for each.
    """
    target, dataset, stats = data.need("target"), data.train_ds, data.train_dl.stats
    size, c = getattr(dataset, "size", None), len(target.classes)
    thresh = torch.as_tensor(thresh, dtype=torch.float32)
    if thresh.ndim:
        check.between("number of thresholds", len(thresh), c, c)
    return save_tensors(file, {
        "content": EXPORTED, "model": model.state_dict(),
        "recipe": getattr(model, "recipe", {"kind": "own", "arch": type(model).__name__}),
        "target": type(target).__name__, "classes": list(map(str, target.classes)),
        "div": getattr(target, "div", False),
        "size": None if size is None else list(map(int, size)),
        "method": getattr(dataset, "method", "crop"),
        "stats": None if stats is None else [part.cpu() for part in stats],
        "thresh": thresh})
