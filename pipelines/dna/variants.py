"""The command `variants`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from titans_ts.pipelines.dna.options import (
    GenomeFile,
    Label,
    Model,
    Window,
    class_of_name,
    load_estimator,
)
from titans_ts.pipelines.options import (
    Json,
    PadInvalid,
    Quiet,
    Rename,
    Report,
    Threads,
    contig_names,
    echo_json,
    given_files,
)

__all__ = ["variants"]


def variants(
    genome: GenomeFile,
    vcf: Annotated[Path, typer.Argument(metavar="VCF", help="Variants, plain or gzipped.")],
    model: Model,
    out: Annotated[Path, typer.Option(help="A .csv file.")],
    window: Window,
    outside: Annotated[
        str, typer.Option(help="Variants whose contig is not in the genome: error or drop.")
    ] = "error",
    background: Annotated[
        int,
        typer.Option(min=0, help="Random variants of each kind, for the column p_value (0: none)."),
    ] = 0,
    rename: Rename = None,
    pad_invalid: PadInvalid = False,
    label: Label = None,
    json: Json = False,
    report: Report = None,
    threads: Threads = 1,
    quiet: Quiet = False,
) -> None:
    """Score how much each variant of a VCF file changes the prediction of a model.

    Scores are log-odds of the class (or values of a regressor) for windows with the reference and with
    the alternative. The column ref_match says whether the genome has the reference there; p_value is the
    share of random variants of the same kind with an effect as large.
    """
    from titans_ts.datasets import Genome, read_variants
    from titans_ts.datasets.atomic import replace_file

    estimator, alleles = load_estimator(model, threads, quiet), read_variants(vcf)
    effects = estimator.variant_effect(
        Genome(genome, pad_invalid=pad_invalid),
        alleles,
        window=window,
        background=background,
        outside=outside,
        label=class_of_name(estimator, label),
        rename=contig_names(rename),
    )
    replace_file(out, effects.to_csv(index=False, float_format="%.6g").encode())
    if report is not None:
        from titans_ts.pipelines.dna.report import variants_page

        settings = {"model": str(model), "label": label or "default", "window": window}
        settings |= {"background": background, "outside": outside}
        page = variants_page(effects, f"{vcf.name} on {genome.name}", settings)
        replace_file(report, page.encode())
    mismatch = int((~effects["ref_match"]).sum())
    if json:
        content = {
            "variants": len(effects),
            "mismatches": mismatch,
            "without_letters": alleles.attrs["left_out"],
            "outside": len(alleles) - len(effects),
            "files": given_files(out, report),
        }
        echo_json(content)
        return
    more = f", {mismatch} of which do not match the genome" if mismatch else ""
    if alleles.attrs["left_out"]:
        more += f"; {alleles.attrs['left_out']} alleles without letters (such as <DEL>) left out"
    if dropped := len(alleles) - len(effects):
        more += f"; {dropped} on contigs that are not in {genome.name} left out"
    typer.echo(f"{len(effects)} variants{more}\nwrote {out}")
