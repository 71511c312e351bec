#!/usr/bin/env python3
"""kill -9 soak: short jobs, one after another; of each one process (coordinator, a server, a worker, mpirun, weir
train) is killed at a moment that a seed draws, then the job goes on: by --max-restarts, or by --resume once nothing of
it runs. What must hold of each: the job that goes on starts at the newest checkpoint that was there, so that no step is
lost but those after it, which are fewer than lie between two checkpoints and the one that was under way; the end is
that of the run that never failed, bit for bit: every tensor of the checkpoint, every loss and metric.

SOAK_JOBS: how many (10). SOAK_SEED: of the first one (1); job i has seed SOAK_SEED + i, and `SOAK_SEED=N SOAK_JOBS=1`
plays job N again, as far as a moment can be met again. WEIR_BIN: folder of the programs."""
import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

BIN = pathlib.Path(os.environ["WEIR_BIN"]).resolve()
JOBS, SEED = int(os.environ.get("SOAK_JOBS", "10")), int(os.environ.get("SOAK_SEED", "1"))
WEIR = str(BIN / "weir")
EVERY, LOG_EVERY, STEPS = 20, 10, 280  # steps between checkpoints, between lines, of a run
CONFIG = f"""
data: {{path: data}}
model: {{embedding_dim: 16, blocks: 2, heads: 1, dqk: 16, dv: 16, max_sequence_length: 24, output_length: 4}}
loss: {{negatives: 16}}
train: {{batch_users: 32, epochs: 40, log_every: {LOG_EVERY}, seed: 3, checkpoint_every: {EVERY}, keep_checkpoints: 2}}
eval: {{every_epochs: 20, batch_users: 32}}
cluster: {{timeout: 60}}
"""
# Servers, workers, and what differs from the configuration: kinds of checkpoints, and of what is in them.
SHAPES = [
    (2, 2, []),
    (1, 1, ["train.checkpoint_full_every=4"]),
    (2, 1, ["train.checkpoint_in_background=false"]),
    (1, 2, ["train.checkpoint_full_every=3", "model.user_embedding=true", "sparse.ttl=50"]),
]
# What outlives weir train for a second or two, while mpirun ends it.
LONG = (2, 2, ["train.epochs=160"])
# Names as the kernel keeps them: 15 characters.
VICTIMS = {"coordinator": "weir-coordinato", "ps": "weir-ps", "worker": "weir-worker", "mpirun": "mpirun", "train": "weir"}
LIMIT = 120  # seconds, of what hangs
references = {}


class Failure(Exception):
    pass


def processes(scratch):
    """(pid, name) of what runs in the scratch folder."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            if os.readlink(entry / "cwd") == str(scratch):
                state = (entry / "stat").read_text().rsplit(")", 1)[1].split()[0]
                if state != "Z":
                    found.append((int(entry.name), (entry / "comm").read_text().strip()))
        except OSError:
            pass  # it ended meanwhile
    return found


def wait_until(what, condition):
    end = time.monotonic() + LIMIT
    while not condition():
        if time.monotonic() > end:
            raise Failure(f"{what}: not within {LIMIT} s")
        time.sleep(0.01)


def command(shape, run, *more):
    ps, workers, settings = shape
    words = [WEIR, "train", "--config", "config.yaml", "--run", run, "--ps", str(ps), "--workers", str(workers)]
    for setting in settings:
        words += ["--set", setting]
    return words + list(more)


def start(words, log):
    with open(log, "ab") as file:
        return subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True)


def finish(job, what):
    try:
        return job.wait(LIMIT)
    except subprocess.TimeoutExpired:
        raise Failure(f"{what} does not end") from None


def reached(run):
    try:
        return int(pathlib.Path(run, "progress").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return 0


def newest(run):
    steps = [p.parent.name for p in pathlib.Path(run, "checkpoints").glob("step-*/manifest.json")]
    return max([int(s[5:]) for s in steps if s[5:].isdigit()], default=0)


def numbers(run):
    """What training and evaluation said, but for times and speeds, by kind and step."""
    said = {}
    for text in pathlib.Path(run, "metrics.jsonl").read_text().splitlines():
        line = json.loads(text)
        if line["kind"] == "eval":
            said["eval", line["step"]] = {k: v for k, v in line.items() if k not in ("t", "seconds")}
        elif line["kind"] == "train":
            said["train", line["step"]] = {k: line[k] for k in ("epoch", "loss")}
    return said


def compare_numbers(said, wanted):
    """A job that was stopped in time (mpirun ends ranks by SIGTERM when weir train is killed) says the loss of the steps
    up to there, and in the next line of those after it: these two lines are not the same."""
    odd = [step for kind, step in said if kind == "train" and step % LOG_EVERY != 0]
    for step in odd:
        said.pop(("train", step))
        said.pop(("train", step + LOG_EVERY - step % LOG_EVERY), None)
        wanted = {key: line for key, line in wanted.items() if key != ("train", step + LOG_EVERY - step % LOG_EVERY)}
    if len(odd) > 1 or said != wanted:
        raise Failure("not the losses and metrics of the run that never failed")


def digest(shape, run):
    """The state of a run. A checkpoint that builds on others has a part of it: an epoch more, and the first checkpoint
    of a job has all."""
    if any("full_every" in setting for setting in shape[2]):
        more = command(shape, run, "--resume", "--set", "train.epochs=41")
        if finish(start(more, f"{run}.log"), "an epoch more") != 0:
            raise Failure("an epoch more after the end failed")
    return subprocess.run([BIN.parent / "tests" / "checkpoint_digest", f"{run}/checkpoints/latest"], check=True,
                          capture_output=True, text=True).stdout


def reference(shape, index):
    """Of the run that never failed: its seconds, what it said, its state."""
    run = f"reference-{index}"
    began = time.monotonic()
    if index not in references:
        if finish(start(command(shape, run), f"{run}.log"), run) != 0:
            raise Failure(f"{run} failed")
        references[index] = (time.monotonic() - began, numbers(run), digest(shape, run))
    return references[index]


def kill_one(draw, scratch, job, role, run, seconds):
    """At the drawn moment: a time since the start of the job for one in four, else a step and a little. What was
    killed, or None where the job was faster."""
    step = draw.randrange(STEPS)
    moment = draw.random() * seconds if draw.random() < 0.25 else None
    began, little, chosen = time.monotonic(), draw.random() * 0.03, draw.random()
    while job.poll() is None and (time.monotonic() - began < moment if moment is not None else reached(run) < step):
        time.sleep(0.002)
    time.sleep(little)
    while job.poll() is None:
        if role == "train":
            victims = [job.pid]
        else:
            victims = sorted(pid for pid, name in processes(scratch) if name == VICTIMS[role])
        if victims:
            pid = victims[int(chosen * len(victims))]
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
            return pid
        time.sleep(0.005)
    return None


def resume_by_hand(scratch, shape, run, log, job, killed):
    status = finish(job, "the job")
    wait_until("processes of the job end", lambda: not processes(scratch))
    if killed is None or status == 0:
        return newest(run), reached(run)
    there, step = newest(run), reached(run)
    if not pathlib.Path(run, "config.yaml").exists():  # it had not become a run
        shutil.rmtree(run, ignore_errors=True)
        again = command(shape, run)
    elif there == 0:  # nothing is saved: it starts from nothing
        shutil.rmtree(run)
        again = command(shape, run)
    else:
        again = command(shape, run, "--resume")
    said = pathlib.Path(log).stat().st_size
    status = finish(start(again, log), "the job that resumes")
    if status != 0:
        raise Failure(f"the job that resumes ended with {status}")
    text = pathlib.Path(log).read_text()[said:]
    found = re.search(r"resum\w* .*?step (\d+)", text)
    if there > 0 and (found is None or int(found.group(1)) != there):
        raise Failure(f"resumed from {found and found.group(1)}, the newest checkpoint is of step {there}")
    return there, step


def restarted(run, log, job):
    status = finish(job, "weir train")
    if status != 0:
        raise Failure(f"weir train --max-restarts ended with {status}")
    events = pathlib.Path(run, "restarts.jsonl")
    if not events.exists():
        return 0, 0
    event = json.loads(events.read_text().splitlines()[-1])
    return event["from_step"], event["reached_step"]


def play(seed, scratch):
    draw = random.Random(seed)
    role = list(VICTIMS)[seed % len(VICTIMS)]
    index = -1 if role == "train" else seed % len(SHAPES)
    shape = LONG if role == "train" else SHAPES[index]
    supervised = role != "train" and draw.random() < 0.5
    run, log = f"run-{seed}", f"run-{seed}.log"
    seconds, said, state = reference(shape, index)
    job = start(command(shape, run, *(["--max-restarts", "1"] if supervised else [])), log)
    killed = kill_one(draw, scratch, job, role, run, seconds)
    if supervised:
        there, step = restarted(run, log, job)
    else:
        there, step = resume_by_hand(scratch, shape, run, log, job, killed)
    wait_until("processes of the job end", lambda: not processes(scratch))
    if step > there + 2 * EVERY:
        raise Failure(f"at step {step} the newest checkpoint was of step {there}")
    compare_numbers(numbers(run), said)
    if digest(shape, run) != state:
        raise Failure("not the bits of the run that never failed")
    shutil.rmtree(run)
    how = "no process was met" if killed is None else f"{there} of {step} steps were saved"
    print(f"seed {seed}: {role}, {'restarted' if supervised else 'resumed'}: {how}", flush=True)
    return killed is not None and step > there, killed is not None, max(0, step - there)


def main():
    os.environ.update(OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
    os.environ["PATH"] = f"{BIN}:{os.environ['PATH']}"
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="weir-soak-")).resolve()
    os.chdir(scratch)
    pathlib.Path("config.yaml").write_text(CONFIG)
    subprocess.run([WEIR, "synth", "--out", "data", "--users", "200", "--items", "150", "--seed", "7"], check=True,
                   stdout=subprocess.DEVNULL)
    failed, kills, repeated, most = [], 0, 0, 0
    for seed in range(SEED, SEED + JOBS):
        try:
            lost, killed, steps = play(seed, scratch)
            kills, repeated, most = kills + killed, repeated + lost, max(most, steps)
        except (Failure, OSError, ValueError, subprocess.CalledProcessError) as failure:
            failed.append(seed)
            print(f"FAILED: seed {seed} (SOAK_SEED={seed} SOAK_JOBS=1 plays it again): {failure}", flush=True)
            log = pathlib.Path(f"run-{seed}.log")
            print("\n".join(log.read_text(errors="replace").splitlines()[-30:]) if log.exists() else "no log", flush=True)
            for pid, _ in processes(scratch):
                os.kill(pid, signal.SIGKILL)
    print(f"{JOBS} jobs, {kills} killed, {repeated} of these repeated steps, {most} at most; {len(failed)} failed")
    if not failed and JOBS >= 4 and 2 * kills < JOBS:
        print("FAILED: hardly a process was met")
        failed.append(SEED)
    os.chdir("/")
    if failed and os.environ.get("SOAK_KEEP"):
        print(f"kept: {scratch}")
    else:
        shutil.rmtree(scratch, ignore_errors=True)
    sys.exit(1 if failed else 0)


main()
