"""Encode a corpus as a Slurm job array: every job runs the same function on the same folder, and they share its shards.

Run: python examples/encode_with_submitit.py MANIFEST --out FOLDER [--model small] [--jobs 16] [--cluster slurm]
Needs submitit (pip install 'syllablelm[slurm]'). `--cluster local` runs the jobs as processes of this host, without
Slurm. Jobs may start at different times, be preempted, and be submitted again: what is finished stays.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from syllablelm.engine import encode_corpus, open_corpus


def encode(manifest: Path, out: Path, model: str, device: str, shard_seconds: float) -> int:
    """Encode what other jobs leave, and return the number of shards once all exist."""
    return len(encode_corpus(manifest, out, model, device=device, shard_seconds=shard_seconds).shards)


def main() -> None:
    import submitit  # pyright: ignore[reportMissingImports]

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="small")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--shard-seconds", type=float, default=3600.0)
    parser.add_argument("--jobs", type=int, default=16)
    parser.add_argument("--gpus", type=int, default=1, help="GPUs of a job: 1 or 0.")
    parser.add_argument("--cpus", type=int, default=8, help="Processors of a job.")
    parser.add_argument("--hours", type=float, default=12.0)
    parser.add_argument("--partition", help="Slurm partition.")
    parser.add_argument("--cluster", choices=["slurm", "local"], default="slurm")
    options = parser.parse_args()

    executor = submitit.AutoExecutor(folder=options.out.with_name(f"{options.out.name}.jobs"), cluster=options.cluster)
    executor.update_parameters(
        name="encode",
        timeout_min=round(60 * options.hours),
        gpus_per_node=options.gpus,
        cpus_per_task=options.cpus,
        slurm_partition=options.partition,
    )
    # Absolute, since a job may run in another folder.
    given = (options.manifest.absolute(), options.out.absolute(), options.model, options.device, options.shard_seconds)
    with executor.batch():
        jobs = [executor.submit(encode, *given) for _ in range(options.jobs)]
    shards = [job.result() for job in jobs]
    summary = open_corpus(options.out).summary()
    print(f"{len(shards)} jobs, {summary.shards} shards, {summary.recordings} recordings, {summary.segments} units")


if __name__ == "__main__":
    main()
