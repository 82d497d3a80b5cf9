"""Two processes under torchrun, over gloo: the same run as one process, in copies (DDP) and in shards (FSDP2)."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from engine import config, process
from engine.__main__ import main
from engine.checkpoint import complete, load
from engine.errors import RunError
from engine.parallel import Ranks
from tests.engine.conftest import MakeRun, data_of, events_of, losses_of, texts_of, write_shard
from workbench.runs import launch

# One process adds four micro-batches up in one order, two in another: float32 sums differ in their last bits, and what
# that becomes within 12 steps stays below this (measured: 1.2e-7 relative at most).
TOLERANCE = 2e-6

# The engine, but something happens to one rank in the middle of its third step.
HARMED = """
import os, signal, sys
from engine.__main__ import main
from engine.train import Trainer
original = Trainer._train
def harmed(self, step):
    if step == 3 and os.environ["RANK"] == "{rank}":
        {harm}
    return original(self, step)
Trainer._train = harmed
sys.exit(main(["train", sys.argv[1]]))
"""


# Muon over shards beside Muon over whole matrices: equal steps, and one that is left out. Five ranks, four matrices,
# and rows that do not divide evenly.
SHARDED_MUON = """
import torch
from engine import optim, parallel
from engine.config import resolve
from engine.model import GPT

c = resolve(sets=["model.family=modern", "model.n_layer=1", "model.n_head=2", "model.n_embd=24", "model.block_size=16",
                  "model.vocab_size=60", "model.mlp=swiglu"])
ranks = parallel.join()
ranks.mode = "fsdp"
models = []
for shared in (False, True):
    torch.manual_seed(1)
    model = GPT(c.model)
    for p in model.parameters():
        p.data.add_(torch.randn_like(p) * 0.1)
    call = ranks.share(model, torch.device("cpu")) if shared else model
    models.append((model, call, optim.build(model, c.optim, "cpu")))

def compare():
    pairs = zip(*(model.named_parameters() for model, _, _ in models))
    for (name, a), (_, b) in pairs:
        torch.testing.assert_close(parallel.whole(b), a, rtol=1e-5, atol=1e-6, msg=name)

for step in range(3):
    tokens = torch.randint(0, 60, (2, 17), generator=torch.Generator().manual_seed(step))
    for model, call, optimiser in models:
        call(tokens[:, :-1], tokens[:, 1:]).backward()
        optimiser.step()
        optimiser.zero_grad()
    compare()
model, call, optimiser = models[1]
call(tokens[:, :-1], tokens[:, 1:]).backward()
before = {n: v.clone() for n, v in optim.state_tensors(model, optimiser).items() if n.startswith("momentum")}
for p in model.parameters():
    parallel.local(p.grad).fill_(float("nan"))
optimiser.found_inf = torch.ones(())
optimiser.step()
compare()
assert all((parallel.local(v) == parallel.local(before[n])).all()
           for n, v in optim.state_tensors(model, optimiser).items() if n in before)
parallel.leave()
ranks.rest()
"""


def torchrun(run_dir: Path, script: Path | None = None, processes: int = 2) -> subprocess.Popen[str]:
    line = launch.command(run_dir, processes)
    if script is not None:
        line = [*line[: line.index("--no-python") + 1], sys.executable, str(script), str(run_dir)]
    environment = {**launch.environment(), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def train(run_dir: Path, processes: int) -> None:
    if processes == 1:
        assert main(["train", str(run_dir)]) == 0
        (run_dir / process.FILE_NAME).unlink()  # it names this very process, which lives on
        return
    engine = torchrun(run_dir, processes=processes)
    out, err = engine.communicate(timeout=120)
    assert engine.returncode == 0, err
    assert out.count("finished at step") == 1, "rank 0 alone speaks"


def extend(run: Path, steps: int) -> None:
    path = run / "config.toml"
    path.write_text(config.resolve(path, overrides={"train.max_steps": steps}).to_toml())


def same_as_one(make_run: MakeRun, parallel: str, plan: list[tuple[int, int]], **changes: Any) -> None:
    """A run of 12 steps, cut into pieces of so many processes up to so many steps, has the losses of one process."""
    changes = {"train__grad_accum": 4, "schedule__decay_steps": 12, "eval__every": 6, **changes}
    whole, run = make_run("whole", **changes), make_run("run", train__parallel=parallel, **changes)
    train(whole, 1)
    for processes, steps in plan:
        extend(run, steps)
        train(run, processes)
    assert losses_of(run) == pytest.approx(losses_of(whole), rel=TOLERANCE)
    for split in ("heldout", "seen"):
        evals = [
            {
                e["step"]: e["loss"]
                for e in events_of(r)
                if e["event"] == "eval" and e["split"] == split and not e["step"] % 6
            }
            for r in (run, whole)
        ]
        assert evals[0] == pytest.approx(evals[1], rel=TOLERANCE)
    norms = [[e["grad_norm"] for e in events_of(r) if e["event"] == "step"] for r in (run, whole)]
    # Muon orthogonalises in bfloat16: rounding shows in norms and weights long before it shows in a loss.
    muon = changes.get("optim__kind") == "muon"
    assert norms[0] == pytest.approx(norms[1], rel=1e-3 if muon else 2e-4)
    a, b = (load(complete(r)[0]) for r in (run, whole))
    assert a.model.keys() == b.model.keys() and a.optimizer.keys() == b.optimizer.keys()
    for name, value in b.model.items():
        assert a.model[name].shape == value.shape
        assert (a.model[name] - value).abs().max() < (5e-3 if muon else 1e-4), name
    assert {e["processes"] for e in events_of(run) if e["event"] == "start"} == {processes for processes, _ in plan}


def test_copies_train_as_one_process_and_their_checkpoint_resumes_on_one(make_run: MakeRun) -> None:
    same_as_one(make_run, "ddp", [(2, 7), (1, 12)])


def test_shards_train_as_one_process_and_resume_its_checkpoint(make_run: MakeRun) -> None:
    same_as_one(make_run, "fsdp", [(1, 3), (2, 12)])


def test_sharded_matrices_move_as_whole_ones_do(make_run: MakeRun) -> None:
    """Muon on two processes that share each matrix; from a checkpoint of one process, and its own resumed on one."""
    same_as_one(
        make_run, "fsdp", [(1, 3), (2, 8), (1, 12)], model__family="modern", model__n_kv_head=1, optim__kind="muon",
        optim__lr=0.01,
    )  # fmt: skip


@pytest.mark.slow
def test_muon_over_shards_steps_and_leaves_a_step_out(tmp_path: Path) -> None:
    script = tmp_path / "muon.py"
    script.write_text(SHARDED_MUON)
    engine = torchrun(tmp_path, script, processes=5)
    out, err = engine.communicate(timeout=120)
    assert engine.returncode == 0, out + err


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
@pytest.mark.parametrize(
    "changes",
    [
        {"model__family": "modern", "optim__kind": "muon", "optim__lr": 0.01},
        {
            "model__family": "modern",
            "model__mlp": "swiglu",
            "model__tied": True,
            "model__document_mask": True,
            "optim__kind": "adamw",
        },
        {"model__bias": True, "optim__grad_clip": 0.1},
    ],
)
def test_every_family_and_optimiser(make_run: MakeRun, parallel: str, changes: dict[str, Any]) -> None:
    same_as_one(make_run, parallel, [(2, 5), (4, 8), (1, 12)], **changes)


def stopped_text(run: Path) -> str:
    stops = [e for e in events_of(run) if e["event"] == "stop"]
    assert len(stops) == 1 and stops[0]["reason"] == "failed"
    assert "\n" not in stops[0]["text"]
    return str(stops[0]["text"])


@pytest.mark.parametrize(
    ("rank", "harm", "says"),
    [
        (1, "raise MemoryError", "rank 1: out of memory"),
        pytest.param(
            1, "os.kill(os.getpid(), signal.SIGKILL)", "another process of this run died", marks=pytest.mark.slow
        ),
        pytest.param(0, "raise MemoryError", "out of memory", marks=pytest.mark.slow),
    ],
)
def test_a_failing_rank_ends_the_run_with_one_line(
    make_run: MakeRun, tmp_path: Path, rank: int, harm: str, says: str
) -> None:
    run = make_run(train__grad_accum=2, train__checkpoint_every=2)
    script = tmp_path / "harmed.py"
    script.write_text(HARMED.format(rank=rank, harm=harm))
    engine = torchrun(run, script)
    began = time.monotonic()
    _, err = engine.communicate(timeout=120)
    assert engine.returncode == 1 and time.monotonic() - began < 60
    text = stopped_text(run)
    assert text.startswith(says) and err.count(text) == 1
    assert [p.name for p in complete(run)] == ["step-00000002"]
    assert [e["step"] for e in events_of(run) if e["event"] == "step"][-1] == 2


@pytest.mark.slow
@pytest.mark.parametrize("accumulate", [2, 4])
def test_copies_measure_the_noise_scale(make_run: MakeRun, tmp_path: Path, accumulate: int) -> None:
    """From the gradients of each rank before they are exchanged; nothing of the training changes."""
    script = tmp_path / "often.py"
    script.write_text(
        "import sys, engine.noise as noise; noise.EVERY = noise.EVERY_SPLIT = 2\n"
        "from engine.__main__ import main; sys.exit(main(['train', sys.argv[1]]))"
    )
    changes = {"train__grad_accum": accumulate, "eval__every": 0, "train__parallel": "ddp"}
    plain, run = make_run("plain", **changes), make_run("run", **changes)
    train(plain, 2)
    engine = torchrun(run, script)
    assert engine.wait(120) == 0, engine.communicate()
    assert losses_of(run) == pytest.approx(losses_of(plain), rel=TOLERANCE)
    norms = {e["step"]: e["grad_norm"] for e in events_of(run) if e["event"] == "step"}
    found = [e for e in events_of(run) if e["event"] == "noise_scale"]
    assert [e["step"] for e in found] == [6, 8, 10, 12]
    assert all(e["big_norm"] == norms[e["step"]] and e["small_norm"] > e["big_norm"] for e in found)


def test_stop_reaches_every_rank_at_the_same_step(make_run: MakeRun) -> None:
    """As ``gptbench stop`` sends it: to the pid of process.json, which is rank 0's."""
    run = make_run(train__processes=2, train__grad_accum=2, train__max_steps=100_000, eval__every=0)
    launch.start(run)
    end = time.monotonic() + 90
    while not any(e["event"] == "step" for e in events_of(run)):
        assert time.monotonic() < end, (run / "engine.log").read_text()
        time.sleep(0.2)
    assert launch.stop(run, wait=60)
    stop = events_of(run)[-1]
    assert stop["event"] == "stop" and stop["reason"] == "stopped"
    assert complete(run)[0].name == f"step-{stop['step']:08d}"
    assert process.alive(run) is False


def test_what_does_not_divide_is_one_line() -> None:
    c = config.resolve(overrides={"train.grad_accum": 3})
    with pytest.raises(RunError, match=r"over 2 processes; set train.grad_accum=4"):
        Ranks(0, 2).fit(c)
    with pytest.raises(config.ConfigError, match=r"train.grad_accum=8"):
        config.resolve(overrides={"train.grad_accum": 5, "train.processes": 4})


def test_shards_where_copies_would_fill_the_card() -> None:
    c = config.resolve(overrides={"model.preset": "gpt2-350m"})
    ranks = Ranks(0, 2)
    for memory, mode in ((80 << 30, "ddp"), (6 << 30, "fsdp"), (None, "ddp")):
        ranks.choose(c, memory)
        assert ranks.mode == mode
    ranks.choose(config.resolve(overrides={"train.parallel": "fsdp"}), None)
    assert ranks.mode == "fsdp"


def test_lines_for_one_machine_and_for_many(tmp_path: Path) -> None:
    run = tmp_path / "a run"
    assert launch.command(run)[1:] == ["-P", "-m", "engine", "train", str(run)]
    (line,) = launch.command_lines(run, 4, 1)
    assert "--standalone" in line and "--nproc-per-node=4" in line and f"'{run}'" in line
    node, slurm = launch.command_lines(run, 8, 2)[1::2]
    assert "--nnodes=2" in node and "--nproc-per-node=8" in node and "--rdzv-endpoint=$MASTER_ADDR:29500" in node
    assert slurm.startswith("sbatch --nodes=2 ") and "--gpus-per-node=8" in slurm and "srun" in slurm
    for text in (node, slurm):  # the shell can read them
        assert subprocess.run(["bash", "-n", "-c", text], check=False).returncode == 0
    words = subprocess.run(
        ["bash", "-c", f"printf '%s\\n' {node}"], capture_output=True, text=True, check=True,
        env={**os.environ, "MASTER_ADDR": "first"},
    ).stdout.splitlines()  # fmt: skip
    assert "--rdzv-endpoint=first:29500" in words and str(run) in words


@pytest.mark.slow
def test_two_processes_stream_the_shards_as_one_does(make_run: MakeRun, tmp_path: Path) -> None:
    folder = tmp_path / "shards"
    folder.mkdir()
    for seed in range(5):
        write_shard(folder / f"{seed}.parquet", texts_of(40, seed))
    changes = {"train__grad_accum": 2, "data__paths": [str(folder)], "data__shuffle_window": 2, "train__max_steps": 40}
    one, two = (make_run(n, **changes, data__cache=str(tmp_path / f"cache-{n}")) for n in ("one", "two"))
    train(one, 1)
    train(two, 2)
    assert data_of(two)["order"]["kind"] == "windows" and data_of(two)["tokens"] == data_of(one)["tokens"]
    assert losses_of(two) == pytest.approx(losses_of(one), rel=TOLERANCE)
