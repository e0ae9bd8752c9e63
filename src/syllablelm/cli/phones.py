"""``evaluate phones``: phone error rate of a probe that reads phones from units."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from syllablelm.cli.common import DEFAULT_MODEL, Device, Model, Rate, Resamples, Seed, print_json
from syllablelm.core.errors import InputError
from syllablelm.evaluate.lists import describe_data, read_references, read_unit_list


def phones(
    test: Annotated[
        list[str], typer.Argument(metavar="AUDIO|UNITS", help="Test list: recordings, or the output of tokenize.")
    ],
    alignments: Annotated[
        Path, typer.Option("--alignments", metavar="FILE", help="Alignments of the test list: jsonl, TextGrid or ctm.")
    ],
    train: Annotated[
        list[str],
        typer.Option("--train", metavar="AUDIO|UNITS", help="Training list of the same kind; repeatable."),
    ],
    train_alignments: Annotated[
        Path, typer.Option("--train-alignments", metavar="FILE", help="Alignments of the training list.")
    ],
    partial: Annotated[
        bool, typer.Option("--partial", help="Use the recordings that files of units and alignments share.")
    ] = False,
    model: Model = DEFAULT_MODEL,
    rate: Rate = None,
    steps: Annotated[
        int | None, typer.Option("--steps", metavar="N", min=1, help="Number of training updates.")
    ] = None,
    resamples: Resamples = 1000,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Phone error rate of a probe trained to read phones from units.

    The probe sees the units and the lengths of segments. Test recordings must not be in the training list.
    """
    from syllablelm.core.progress import ProgressBar
    from syllablelm.evaluate.checks import check_lengths
    from syllablelm.evaluate.units.phone_probe import ProbeSettings, phone_probe

    settings = ProbeSettings() if steps is None else ProbeSettings(steps=steps)
    references, train_references = read_references(alignments), read_references(train_alignments)
    test_list = read_unit_list(test, None, model, rate, device)
    train_list = read_unit_list(train, None, model, rate, device)
    if test_list.model != train_list.model:
        raise InputError("give recordings for both lists or files of units for both: one tokenizer must make all units")
    scored, omitted = test_list.align(references, partial=partial)
    trained, train_omitted = train_list.align(train_references, partial=partial)
    check_lengths(scored, references, test_list.name)
    check_lengths(trained, train_references, train_list.name)
    with ProgressBar("probe", settings.steps, closing_line=False) as bar:
        result = phone_probe(
            trained,
            train_references,
            scored,
            references,
            settings=settings,
            seed=seed,
            device=device,
            progress=bar.advance,
        )
    print_json(
        {
            **test_list.header("phones", alignments, scored, omitted),
            "train": describe_data(train_list.name, train_alignments, trained, train_omitted),
            **result.to_dict(resamples=resamples, seed=seed),
        }
    )
