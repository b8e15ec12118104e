"""Long contexts: two bacteria, a whole genome in one pass, recall of a distant motif, prophages.

    python benchmarks/long_dna.py species      # E. coli or Salmonella, windows of 1 kb to 1 Mb
    python benchmarks/long_dna.py genome       # 4.6 million letters, and 100 million random ones
    python benchmarks/long_dna.py recall       # a motif up to a million letters back, and attention
    python benchmarks/long_dna.py novelty      # surprisal in E. coli's prophages
    python benchmarks/long_dna.py composition  # prophages and ribosomal RNA without a network

species: a classifier is trained on windows of 1 to 16 kb from the first 70 % of both chromosomes, and
tested on windows of the rest.

recall: the background is real (E. coli). A cue followed by one of four motifs is somewhere in the first
quarter, another motif without the cue anywhere, and the cue again at the end. The class is the motif
after the cue. Only the last token is classified, so the model must carry the motif to it. The control has
the same sliding window and no memory. With `--beginning` the pair is within the first 48 letters and
there is no other motif, so keeping the first tokens is enough. Training starts with short stretches and
continues with longer ones (`pretrained`). A separate process reads every length in pieces and reports its
peak memory.

novelty: a language model is trained on both genomes (`--letters` is the folder where it is saved, or
loaded from) and reads E. coli from end to end. The result is how well windows in prophages are
distinguished from windows elsewhere by the nats per letter, by the surprise of the memories, and by a low
GC content. The training data include the prophages, as a part of the genome.

composition: the same windows, and shorter ones of ribosomal RNA in three bacteria, without a network, by
the nats per letter of a Markov chain with the counts of the whole chromosome; and by the surprise
|M(k) - v| of a linear memory that reads it, whose keys are the four letters before, and whose values are
the letters. `beside` is the area for what remains of it after a linear regression on the nats of the
chain of order 5, the GC content and its square. Ribosomal RNA is where words of 21 letters are those of
the annotated genes of E. coli. The intervals draw whole regions.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import tempfile
import time
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from controls import PLAIN_DNA
from record import data_file, record
from sklearn.metrics import accuracy_score, roc_auc_score

from titans_ts import (
    ConvTokenizer,
    KmerTokenizer,
    NucleotideTokenizer,
    TitansClassifier,
    nucleotide_surprisal,
)
from titans_ts.datasets import Genome, read_regions, reverse_complement
from titans_ts.genomics.baselines import kmer_classifier
from titans_ts.genomics.surprisal import memory_surprise
from titans_ts.kernels import neural_memory
from titans_ts.nn.checkpoint import load_model
from titans_ts.nn.dna.language_model import LanguageModel
from titans_ts.nn.dna.nucleotides import decode_nucleotides, encode_nucleotides

BACTERIA = {
    "E. coli": "genomics/genomes/ecoli_k12_mg1655.fa.gz",
    "Salmonella": "genomics/genomes/salmonella_enterica_LT2.fa.gz",
}
QUIET = {"progress_bar": False, "random_state": 0}
SPECIES = {"tokenizer": KmerTokenizer(k=6), "stride": 3, "n_layers": 1, "rc": "augment"}
SPECIES |= {"position": False, "pooling": "mean", "learning_rate": 5e-3, "max_epochs": 5}
RECALL = {"tokenizer": ConvTokenizer(n_filters=64, kernel_size=31), "stride": 16, "n_layers": 1}
RECALL |= {"pooling": "last", "position": False}
RECALL |= {"training_options": {"patience": 1000}}
STILL = {"dropout": 0.0, "head_dropout": 0.0}  # for recall, whose data have no noise
COURSE = (
    (3_000, (64, 2_048), {"learning_rate": 3e-3, "max_epochs": 15}),
    (1_200, (256, 16_384), {"learning_rate": 2e-3, "max_epochs": 8}),
    (400, (1_024, 131_072), {"learning_rate": 1e-3, "max_epochs": 5}),
)
"""Training stages of recall: number of stretches, range of letters, and training parameters."""
BIN = 4_096
"""Letters of a bin of novelty."""
REGIONS = (
    (BACTERIA["E. coli"], "prophages", BIN),
    (BACTERIA["E. coli"], "ribosomal RNA", 1_024),
    (BACTERIA["Salmonella"], "ribosomal RNA", 1_024),
    ("genomics/genomes/shewanella_os185_500kb.fa.gz", "ribosomal RNA", 1_024),
)
"""Genomes, regions and letters of a bin of composition."""
WORD = 21
"""Letters of a word that ribosomal RNA of two bacteria shares."""
CHROMOSOME = 100_000_000
"""Letters of a random chromosome, which genome reads."""
LONGEST = 2_048
"""Letters of a training window of the language model of novelty."""
LETTERS = {"n_layers": 2, "position": False, "rc": "augment"}
LETTERS |= {"tokenizer": NucleotideTokenizer(kernel_size=11)}
LETTERS |= {"model_options": {"dropout": 0.0}}
LETTERS |= {"batch_size": 4, "learning_rate": 3e-3, "max_epochs": 5}
LETTERS |= {"training_options": {"max_steps_per_epoch": 300}}


@cache
def chromosome(path: str) -> tuple[Genome, str, str]:
    """Read a genome, and the name and the letters of its longest contig."""
    genome = Genome(data_file(path))
    name = max(genome.lengths, key=lambda c: genome.lengths[c])
    return genome, name, genome.fetch(name, 0, genome.lengths[name])


def answers(folder: str, sequences: list[str], queue: Any, threads: int) -> None:
    """Put the predicted classes, the seconds and this process's peak memory in MiB into the queue."""
    torch.set_num_threads(threads)
    model = TitansClassifier.load(folder)
    model.predict([sequences[0][:1000]])
    start = time.perf_counter()
    predicted = [model.predict([s])[0] for s in sequences]
    seconds = time.perf_counter() - start
    # not getrusage's ru_maxrss, which includes the parent's memory when this process began
    status = Path("/proc/self/status").read_text()
    peak = float(status.split("VmHWM:")[1].split()[0]) / 1024
    queue.put((predicted, seconds, peak))


def ask(folder: str, sequences: list[str], threads: int) -> tuple[list[Any], float, float]:
    """Run :func:`answers` in a separate process."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=answers, args=(folder, sequences, queue, threads))
    process.start()
    found = queue.get()
    process.join()
    return found


def windows(text: str, length: int, n: int) -> list[str]:
    """Cut n evenly spaced windows; long ones overlap."""
    starts = np.linspace(0, len(text) - length, n).astype(int)
    return [text[s : s + length] for s in starts]


def species(args: argparse.Namespace) -> Any:
    texts = {name: chromosome(path)[2] for name, path in BACTERIA.items()}
    border = {name: int(0.7 * len(text)) for name, text in texts.items()}
    rng = np.random.default_rng(0)
    lengths = np.exp(rng.uniform(np.log(1_000), np.log(16_000), args.n_train)).astype(int)
    X, y = [], []
    for length, name in zip(lengths, itertools.cycle(texts), strict=False):
        start = int(rng.integers(border[name] - length + 1))
        X.append(texts[name][start : start + length])
        y.append(name)
    words = kmer_classifier(k=6).fit(X, y)
    model = TitansClassifier(**(PLAIN_DNA | QUIET | SPECIES)).fit(X, y)
    with tempfile.TemporaryDirectory() as folder:
        model.save(folder)
        for length in (1_000, 4_000, 16_000, 64_000, 256_000, 1_000_000):
            n = int(np.clip(2_000_000 // length, 12, 150))
            asked, wanted = [], []
            for name, text in texts.items():
                asked += windows(text[border[name] :], length, n)
                wanted += [name] * n
            predicted, seconds, memory = ask(folder, asked, args.threads)
            yield {
                "letters": length,
                "windows": len(asked),
                "accuracy": round(accuracy_score(wanted, predicted), 4),
                "words": round(accuracy_score(wanted, words.predict(asked)), 4),
                "letters_a_second": round(sum(map(len, asked)) / seconds),
                "peak_mib": round(memory),
            }


def genome(args: argparse.Namespace) -> Any:
    text = chromosome(BACTERIA["E. coli"])[2]
    rng = np.random.default_rng(0)
    X = ["".join(rng.choice(list("ACGT"), 200)) for _ in range(40)]
    for name, options in (
        ("a letter a token", {}),
        ("16 letters a token", {"tokenizer": ConvTokenizer(kernel_size=31), "stride": 16}),
    ):
        model = TitansClassifier(**(PLAIN_DNA | QUIET | options), max_epochs=1).fit(X, [0, 1] * 20)
        with tempfile.TemporaryDirectory() as folder:
            model.save(folder)
            texts = [text[:100_000], text[:1_000_000], text]
            if "stride" in options:
                texts.append(decode_nucleotides(rng.integers(0, 4, CHROMOSOME, dtype=np.uint8)))
            for letters in texts:
                _, seconds, memory = ask(folder, [letters], args.threads)
                yield {
                    "tokens": name,
                    "letters": len(letters),
                    "seconds": round(seconds, 1),
                    "letters_a_second": round(len(letters) / seconds),
                    "peak_mib": round(memory),
                }


def recall(args: argparse.Namespace) -> Any:
    text, rng = chromosome(BACTERIA["E. coli"])[2], np.random.default_rng(0)
    border = int(0.7 * len(text))
    cue, *motifs = ("".join(rng.choice(list("ACGT"), 16)) for _ in range(5))

    def planted(length: int, low: int, high: int) -> tuple[str, int]:
        start, label = int(rng.integers(low, high - length + 1)), int(rng.integers(4))
        letters = text[start : start + length]
        at = int(rng.integers(16 if args.beginning else max(1, length // 4 - 31)))
        letters = letters[:at] + cue + motifs[label] + letters[at + 32 : -16] + cue
        if length >= 128 and not args.beginning:
            # another motif, without the cue, before or after the pair
            other = motifs[(label + int(rng.integers(1, 4))) % 4]
            before = max(0, at - 15)  # number of places before it
            place = int(rng.integers(before + length - at - 63))
            place += 0 if place < before else at + 32 - before
            letters = letters[:place] + other + letters[place + 16 :]
        return letters, label

    course = []
    for n, (shortest, longest), options in COURSE[: 2 if args.beginning else None]:
        lengths = np.exp(rng.uniform(np.log(shortest), np.log(longest), n)).astype(int)
        course.append(([planted(length, 0, border) for length in lengths], options))
    tests = {
        n: [planted(n, border, len(text)) for _ in range(min(200, max(20, 4_000_000 // n)))]
        for n in (512, 2_048, 8_192, 32_768, 131_072, 1_000_000)
    }
    memory = STILL | {"memory": {"forget": False}}
    for name, options in (
        ("memory alone", {"variant": "lmm", "model_options": memory}),
        ("memory as gate", {"variant": "mag", "model_options": {"window": 8} | memory}),
        ("attention alone", {"variant": "swa", "model_options": {"window": 8} | STILL}),
    ):
        if args.models and name not in args.models.split(","):
            continue
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            former = None
            for train, learning in course:
                model = TitansClassifier(
                    **(PLAIN_DNA | QUIET | RECALL | options | learning), pretrained=former
                )
                model.fit([s for s, _ in train], [label for _, label in train])
                model.save(folder)
                former = folder
            trained = round(time.perf_counter() - start)
            for n, some in tests.items():
                predicted, seconds, peak = ask(folder, [s for s, _ in some], args.threads)
                yield {
                    "model": name,
                    "letters": n,
                    "asked": len(some),
                    "accuracy": round(accuracy_score([label for _, label in some], predicted), 4),
                    "seconds": round(seconds, 1),
                    "trained_s": trained,
                    "peak_mib": round(peak),
                }


def novelty(args: argparse.Namespace) -> Any:
    size, (genome, name, text) = BIN, chromosome(BACTERIA["E. coli"])
    with tempfile.TemporaryDirectory() as folder:
        letters = args.letters or Path(folder) / "letters"
        if not letters.is_dir():
            model = TitansClassifier(**(PLAIN_DNA | QUIET | LETTERS))
            genomes = [data_file(g) for g in BACTERIA.values()]
            history = model.pretrain(genomes, letters, window=LONGEST)
            yield {"nats_a_letter": round(history[-1]["validation_loss"], 4)}
        frame = nucleotide_surprisal(letters, genome, bin=size, contigs=[name], progress_bar=False)
        body = load_model(letters, LanguageModel).body
        options = {"bin": size, "contigs": [name], "progress_bar": False}
        memory = memory_surprise(body, genome, **options)["score"]
    bins = [text[s : s + size] for s in frame["start"]]
    few = [-(part.count("G") + part.count("C")) / len(part) for part in bins]
    inside, outside = prophages(frame["start"].to_numpy(), frame["end"].to_numpy())
    for by, values in (
        ("nats a letter", frame["score"]),
        ("surprise", memory),
        ("G and C", pd.Series(few)),
    ):
        own, others = values[inside], values[outside]
        yield {
            "by": by,
            "windows": len(own),
            "others": len(others),
            "auc": round(area(values.to_numpy(), inside, outside), 4),
            "inside": round(float(own.mean()), 4),
            "elsewhere": round(float(others.mean()), 4),
        }


def prophages(start: Any, end: Any) -> tuple[Any, Any]:
    """Return which bins lie within a prophage of E. coli, and which at least two bins away from all."""
    features = annotated("sequence_feature")
    features = features[features["attributes"].str.contains("prophage")]
    return within(start, end, features["start"].to_numpy(), features["end"].to_numpy())


def operons(words: Any, start: Any, end: Any) -> tuple[Any, Any]:
    """Return which bins lie within an operon like those of E. coli's ribosomal RNA, and which do not.

    `words` are the WORD-mers of the genome, one per letter. Two of an operon are at most 1 000 apart.
    """
    found = np.flatnonzero(np.isin(words, ribosomal_words()))
    parts = np.split(found, np.flatnonzero(np.diff(found) > 1_000) + 1)
    return within(start, end, *(np.array([part[i] for part in parts]) for i in (0, -1)))


@cache
def ribosomal_words() -> Any:
    """Return the WORD-mers of E. coli's ribosomal RNA, of both strands."""
    genes, text = annotated("rRNA"), chromosome(BACTERIA["E. coli"])[2]
    of_genes = [text[a:b] for a, b in zip(genes["start"], genes["end"], strict=True)]
    both = [s for gene in of_genes for s in (gene, reverse_complement(gene))]
    return np.concatenate([before(numbers(s), WORD)[WORD:] for s in both])


def annotated(kind: str) -> pd.DataFrame:
    """Return the annotations of E. coli of one kind."""
    features = read_regions(data_file("genomics/genomes/ecoli_k12_mg1655.gff.gz"))
    return features[features["feature"] == kind]


def within(start: Any, end: Any, first: Any, last: Any) -> tuple[Any, Any]:
    """Return which bins lie within an interval, and which at least two bins away from all."""
    away = 2 * (end[0] - start[0])
    start, end, first, last = start[:, None], end[:, None], first[None], last[None]
    inside = ((start >= first) & (end <= last)).any(1)
    return inside, ((end <= first - away) | (start >= last + away)).all(1)


def area(values: Any, inside: Any, outside: Any) -> float:
    """Return the area under the ROC curve of the bins inside among these and those outside.

    Both are masks or indices of `values`.
    """
    own, others = values[inside], values[outside]
    scores = np.concatenate([own, others])
    return float(roc_auc_score(np.arange(len(scores)) < len(own), scores))


def numbers(text: str) -> Any:
    """Return the letters as 0 to 3."""
    return encode_nucleotides(text).astype(int)


def before(letters: Any, order: int) -> Any:
    """Return the number of the word of `order` letters before each letter; 0 for the first ones."""
    words = np.zeros(len(letters), int)
    for i in range(1, order + 1):
        words[order:] += letters[order - i : len(letters) - i] * 4 ** (i - 1)
    return words


def composition(args: argparse.Namespace) -> Any:
    for where, of, size in REGIONS:
        letters = numbers(chromosome(where)[2])
        start = np.arange(0, len(letters) - size + 1, size)
        end = start + size
        find = prophages if of == "prophages" else partial(operons, before(letters, WORD))
        inside, outside = find(start, end)
        name = Path(where).name.removesuffix(".fa.gz")
        bins = {"genome": name, "of": of, "bins": int(inside.sum()), "others": int(outside.sum())}
        for by, values, rest in tracks(letters, start, end):
            row = bins | {"by": by, "auc": round(area(values, inside, outside), 4)}
            row["interval"] = interval(values, inside, outside)
            if rest is not None:
                row["beside"] = round(area(rest, inside, outside), 4)
                row["interval_beside"] = interval(rest, inside, outside)
            yield row


def interval(values: Any, inside: Any, outside: Any) -> list[float]:
    """Return the 95 % interval of :func:`area` over random draws of regions, and of stretches outside.

    Neighbouring bins are alike: those of a region are drawn together, and fifty bins outside.
    """
    generator, areas = np.random.default_rng(0), []
    own, others = np.flatnonzero(inside), np.flatnonzero(outside)
    runs = np.split(own, np.flatnonzero(np.diff(own) > 1) + 1)
    stretches = np.array_split(others, max(2, len(others) // 50))
    for _ in range(500):
        drawn = (
            np.concatenate([parts[i] for i in generator.integers(len(parts), size=len(parts))])
            for parts in (runs, stretches)
        )
        areas.append(area(values, *drawn))
    return [round(float(q), 3) for q in np.quantile(areas, [0.025, 0.975])]


def tracks(letters: Any, start: Any, end: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yield the scores of the bins by name, and for those of a memory what composition leaves of them."""
    whole = letters[: end[-1]]

    def mean(values: Any) -> Any:
        return np.add.reduceat(values[: end[-1]].astype(float), start) / (end - start)

    gc = mean((whole == 1) | (whole == 2))
    yield "G and C", -gc, None
    for order in (1, 3, 5, 7):
        words = before(letters, order)
        counts = np.full((4**order, 4), 0.5)
        np.add.at(counts, (words, letters), 1)
        share = counts / counts.sum(1, keepdims=True)
        nats = mean(-np.log(share[words, letters]))
        yield f"Markov chain of order {order}", nats, None
        if order == 5:
            controls = np.stack([np.ones_like(gc), gc, gc**2, nats], 1)
    words, steps = before(letters, 4), (0.001, 0.01, 0.05)
    surprise, state = np.zeros((len(steps), len(letters)), np.float32), None
    for first in range(0, len(letters), 2**16):
        piece = slice(first, first + 2**16)
        k, v = (
            torch.eye(n)[torch.from_numpy(x[piece])][None, :, None].expand(1, -1, len(steps), n)
            for n, x in ((4**4, words), (4, letters))
        )
        lr = torch.tensor(steps).expand(1, k.shape[1], len(steps)) / 2
        initial = (torch.full((len(steps), 4**4, 4), 0.25),)
        out = neural_memory(None, k, v, None, None, lr, initial, state, error_at="token")
        state, surprise[:, piece] = out.state, out.surprise[0].mT.numpy() / 2
    for step, values in zip(steps, surprise, strict=True):
        values = mean(values)
        rest = values - controls @ np.linalg.lstsq(controls, values)[0]
        yield f"memory of 4-mers, step {step}", values, rest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=tuple(RUNS))
    parser.add_argument(
        "--n-train", type=int, default=1500, help="species: number of training windows"
    )
    parser.add_argument(
        "--beginning",
        action="store_true",
        help="recall: the motif is at the beginning, without another",
    )
    parser.add_argument("--models", default="", help="recall: only these, comma-separated")
    parser.add_argument("--letters", type=Path, help="novelty: folder of its model")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows: list[dict[str, Any]] = []
    command, name = f"python benchmarks/long_dna.py {args.what}", f"long-dna-{args.what}"
    if args.beginning:
        command, name = f"{command} --beginning", f"{name}-beginning"
    if args.what == "species":
        command += f" --n-train {args.n_train}"
    for row in RUNS[args.what](args):
        rows.append(row)
        print(json.dumps(row), flush=True)
        record(name, command, rows)


RUNS = {
    "species": species,
    "genome": genome,
    "recall": recall,
    "novelty": novelty,
    "composition": composition,
}


if __name__ == "__main__":
    main()
