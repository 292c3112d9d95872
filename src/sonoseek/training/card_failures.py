"""Where a bundle is wrong and sure of it: phantoms that it has not learnt from, so that its card may show them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sonoseek.core import InvalidValueError
from sonoseek.datasets.phantom import PhantomDataset, PhantomPlan
from sonoseek.encoder import encode_scan, open_encoder, predict

FAILURE_SEED = 991
"""Of an archive that no recipe of this repository trains on."""
COUNT, SHOWN = 200, 5


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A phantom whose likeliest class is not the drawn one.

    Attributes:
        plan: what was drawn.
        predicted: likeliest class. probability: its, 0 … 1, calibrated.
        given: whether it was given as the label; otherwise the bundle abstained.
    """

    plan: PhantomPlan
    predicted: str
    probability: float
    given: bool


@dataclass(frozen=True, kw_only=True)
class Failures:
    """What came of asking.

    Attributes:
        seed: of the archive. count: of its cases.
        records: phantoms that were records: cases but for those that the bundle has learnt from and those of a class
            that it does not know.
        wrong: of them. wrong_labels: of those, given as the label.
        worst: up to so many as were wished: wrong labels first, the surest first.
    """

    seed: int
    count: int
    scored: int
    wrong: int
    wrong_labels: int
    worst: tuple[Failure, ...]


def find_failures(
    bundle: Path,
    *,
    seed: int = FAILURE_SEED,
    count: int = COUNT,
    most: int = SHOWN,
    on_progress: Callable[[int, int], None] | None = None,
) -> Failures:
    """Ask a bundle for the prediction of phantoms and keep the worst; the same bundle gives the same.

    Args:
        bundle: folder.
        seed: of the phantoms.
        count: of phantoms, positive.
        most: failures to keep, not negative.
        on_progress: (done, total) phantoms.

    Raises:
        InvalidValueError: count or most out of range; the bundle has learnt from every one of the phantoms.
        BundleError: as `load_bundle` and the encoder raise it.
    """
    if most < 0:
        raise InvalidValueError(f"most is {most}; it must not be negative. Ask for 0 to count failures alone.")
    archive = PhantomDataset(count=count, seed=seed)
    encoder = open_encoder(bundle, threads=1)
    known = set(encoder.bundle.training.get("cases", {}).get(PhantomDataset.name, ()))
    records = [r for r in archive.records() if r.case_id not in known and r.pathology in encoder.bundle.classes]
    if not records:
        raise InvalidValueError(
            f"the bundle has learnt from all {count} phantoms of seed {seed}; what it gets wrong of them says nothing. "
            "Take another seed."
        )
    failures = []
    for done, record in enumerate(records, start=1):
        scan = archive.load(record.case_id, masks=False).scans[0]
        _, encoding = encode_scan(encoder, scan)
        prediction = predict(encoder.bundle, encoding.logits[0], embedding=encoding.embedding[0])
        predicted = max(prediction.probabilities, key=lambda name: prediction.probabilities[name])
        if predicted != record.pathology:
            failures.append(
                Failure(
                    plan=archive.plan(record.case_id),
                    predicted=predicted,
                    probability=prediction.probabilities[predicted],
                    given=prediction.label is not None,
                )
            )
        if on_progress is not None:
            on_progress(done, len(records))
    failures.sort(key=lambda each: (not each.given, -each.probability, each.plan.case_id))
    return Failures(
        seed=seed,
        count=count,
        scored=len(records),
        wrong=len(failures),
        wrong_labels=sum(each.given for each in failures),
        worst=tuple(failures[:most]),
    )


def failures_section(failures: Failures) -> str:
    """Markdown: how many were wrong, the worst of them, and the commands that show one again."""
    parts = [
        f"Of {failures.scored} phantoms of seed {failures.seed}, which it was not trained on, the likeliest class was "
        f"wrong for {failures.wrong}, and {failures.wrong_labels} of those were given as the label (for the others "
        "it abstained). Phantoms are drawn by code: they show kinds of error and may be published; how often it errs "
        "on scans, the figures of the protocols say.",
    ]
    if not failures.worst:
        return parts[0]
    rows = [
        "| phantom | drawn | lesion | BI-RADS | scanner | burned in | likeliest class | given as the label |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for each in failures.worst:
        plan = each.plan
        rows.append(
            f"| `{plan.case_id}` | {plan.pathology} | {plan.kind} | {plan.birads} | {plan.scanner.name} | "
            f"{_burned_in(plan)} | {each.predicted}, {each.probability:.3f} | {'yes' if each.given else 'no'} |"
        )
    first = failures.worst[0].plan
    parts += [
        "The surest of the wrong labels, then of the abstentions:",
        "\n".join(rows),
        "See them again:",
        f"    sonoseek data phantom --out phantoms --count {failures.count} --seed {failures.seed}\n"
        f"    sonoseek query phantoms/{first.pathology}/{first.case_id}.png --bundle BUNDLE",
    ]
    return "\n\n".join(parts)


def _burned_in(plan: PhantomPlan) -> str:
    marks = [f"{plan.calipers} calipers"] if plan.calipers else []
    return ", ".join([*marks, *(["text"] if plan.caption else [])]) or "nothing"
