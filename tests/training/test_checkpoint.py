from __future__ import annotations

import resource
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from deja_vu.core.errors import FormatError, OutputError
from deja_vu.core.head import HeadParams
from deja_vu.training.checkpoint import fingerprint, load_checkpoint, save_checkpoint

MINE = {"recipe": "r", "source": "s"}


def build(width: int = 8, names: tuple[str, str] = ("first", "second")) -> tuple[nn.Module, torch.optim.Optimizer]:
    model = nn.Sequential(nn.Linear(3, width), nn.BatchNorm1d(width), nn.Dropout(0.3), nn.Linear(width, 1))
    groups = [{"params": model[0].parameters(), "lr": 0.02, "name": names[0]}, {"params": model[3].parameters(), "name": names[1]}]
    return model, torch.optim.Adam(groups, lr=0.01)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> list[float]:
    """A few steps that draw batches, dropout masks and batch statistics."""
    losses = []
    for _ in range(steps):
        points = torch.randn(16, 3)
        loss = (model(points)[:, 0] - points.square().sum(1)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, optimizer = build()
    train(model, optimizer, 20)
    save_checkpoint(tmp_path / "last.pt", 20, model, optimizer, {"best": 1.5, "order": [3, 1, 2], "curve": torch.arange(3)}, whose=MINE)
    expected = train(model, optimizer, 20)

    torch.manual_seed(123)
    resumed, fresh = build()
    train(resumed, fresh, 3)
    step, extra = load_checkpoint(tmp_path / "last.pt", resumed, fresh, whose=MINE)
    assert (step, extra["best"], extra["order"], extra["curve"].tolist()) == (20, 1.5, [3, 1, 2], [0, 1, 2])
    assert train(resumed, fresh, 20) == expected  # bit for bit
    for ours, theirs in zip(resumed.state_dict().values(), model.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize(
    ("other", "message"),
    [
        (build(width=9), r"another model: 0\.bias \(file \[8\]"),
        (build(names=("first", "third")), "another optimizer"),
        ((nn.Linear(3, 1), None), "none"),
    ],
)
def test_a_mismatch_is_refused_and_changes_nothing(tmp_path: Path, other: tuple, message: str) -> None:
    save_checkpoint(tmp_path / "last.pt", 1, *build(), whose=MINE)
    model, optimizer = other
    before, random = {name: value.clone() for name, value in model.state_dict().items()}, torch.get_rng_state()
    with pytest.raises(FormatError, match=message):
        load_checkpoint(tmp_path / "last.pt", model, optimizer, whose=MINE)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)


@pytest.mark.parametrize("content", [b"", b"nonsense", b"cos\nsystem\n(S'true'\ntR."])
def test_a_damaged_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "last.pt").write_bytes(content)
    with pytest.raises(FormatError, match="--overwrite"):
        load_checkpoint(tmp_path / "last.pt", *build(), whose=MINE)


def test_a_truncated_file_and_another_version_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    save_checkpoint(path, 1, *build(), whose=MINE)
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(FormatError, match="not a readable checkpoint"):
        load_checkpoint(path, *build(), whose=MINE)
    torch.save({"format": 99}, path)
    with pytest.raises(FormatError, match="format 99"):
        load_checkpoint(path, *build(), whose=MINE)
    with pytest.raises(FormatError, match="not a readable checkpoint"):
        load_checkpoint(tmp_path / "missing.pt", *build(), whose=MINE)


@pytest.mark.parametrize("other", ["source", "recipe"])
def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path, other: str) -> None:
    """The model would fit it as well."""
    save_checkpoint(tmp_path / "last.pt", 1, *build(), whose=MINE)
    with pytest.raises(FormatError, match=f"belongs to a run with another {other}"):
        load_checkpoint(tmp_path / "last.pt", *build(), whose=MINE | {other: "another"})


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.pop("random"),
        lambda content: content.update(step="7"),
        lambda content: content["optimizer"].pop("param_groups"),
        lambda content: content["optimizer"].pop("state"),
        lambda content: content["optimizer"]["state"][0].update(exp_avg=torch.zeros(2)),
        lambda content: content.update(random=torch.zeros(3, dtype=torch.uint8)),
        lambda content: content["model"].update({"0.weight": 5}),
    ],
)
def test_a_checkpoint_with_entries_that_do_not_fit_is_refused_and_changes_nothing(tmp_path: Path, change: Callable[[dict], object]) -> None:
    model, optimizer = build()
    train(model, optimizer, 2)
    save_checkpoint(tmp_path / "last.pt", 1, model, optimizer, whose=MINE)
    content = torch.load(tmp_path / "last.pt", weights_only=True)
    change(content)
    torch.save(content, tmp_path / "last.pt")
    fresh, other = build()
    before, random = {name: value.clone() for name, value in fresh.state_dict().items()}, torch.get_rng_state()
    with pytest.raises(FormatError, match=r"--overwrite|another model"):
        load_checkpoint(tmp_path / "last.pt", fresh, other, whose=MINE)
    assert all(torch.equal(value, before[name]) for name, value in fresh.state_dict().items())
    assert not other.state
    assert torch.equal(torch.get_rng_state(), random)


def test_fingerprints_tell_values_apart_down_to_the_last_bit() -> None:
    params = HeadParams(torch.zeros(1, 2), torch.zeros(1, 3), torch.zeros(1, 1, 3), torch.eye(4)[None])
    moved = replace(params, joints=params.joints + 1e-30)
    values = ((params,), (moved,), (params, 1), (params, 1.0), (params, "1"), (), (None,), ("a", "b"), ("ab",))
    prints = [fingerprint(*each) for each in values]
    assert len(set(prints)) == len(prints)
    assert fingerprint(params) == fingerprint(replace(params))


def test_a_failed_save_keeps_the_former_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    save_checkpoint(path, 1, *build(), whose=MINE)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))  # as if the disk were full
    try:
        with pytest.raises(OutputError, match="could not be written"):
            save_checkpoint(path, 2, *build(), whose=MINE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert load_checkpoint(path, *build(), whose=MINE)[0] == 1
    assert [item.name for item in tmp_path.iterdir()] == ["last.pt"]
