"""Writing a report's files: the figures of each study, and whatever else goes into its folder."""

from collections.abc import Sequence
from pathlib import Path

from reporting.figures import COLUMN, WIDTH, Looks, png, save_pdf
from reporting.illustrations import illustrate, slug
from reporting.page import Picture
from reporting.summary import Summary


def write_text(path: Path, text: str) -> Path:
    """Replace a file in one step, in the encoding that a page says it has."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(text.encode("utf-8", "replace"))
    temporary.replace(path)
    return path


def draw(summaries: Sequence[Summary], looks: Looks, folder: Path, dpi: int, pdf: bool) -> list[list[Picture]]:
    """Draw each study's figures and write them to the folder.

    Args:
        summaries: the studies.
        looks: how each arm is drawn.
        folder: where to write.
        dpi: of the PNGs.
        pdf: whether to write PDFs too, drawn anew for a paper's column (or both, where a figure needs them).
    """
    found = []
    for name, summary in zip(_names(summaries), summaries, strict=True):
        pictures = []
        for illustration in illustrate(summary, looks):
            if illustration.draw is None:
                pictures.append(Picture(illustration))
                continue
            stem = f"{name}_{illustration.name}"
            picture = Picture(illustration, f"{stem}.png", png(illustration.draw(width=WIDTH), dpi))
            (folder / picture.file).write_bytes(picture.png)
            if pdf:
                save_pdf(illustration.draw(width=WIDTH if illustration.wide else COLUMN), folder / f"{stem}.pdf")
            pictures.append(picture)
        found.append(pictures)
    return found


def _names(summaries: Sequence[Summary]) -> list[str]:
    """A short name for each study's files, none twice."""
    names: list[str] = []
    for summary in summaries:
        run = next(run for runs in summary.study.arms.values() for run in runs)
        name = slug(run.benchmark or summary.study.title)
        number = 2
        while (unique := name if number == 2 and name not in names else f"{name}_{number}") in names:
            number += 1
        names.append(unique)
    return names
