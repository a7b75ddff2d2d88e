"""A comparison of an experiment's trials: the report, in every format."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Final

from harness.api.errors import told_plainly
from harness.core.errors import InputError
from harness.report.blocks import Paragraph
from harness.report.request import Request, render, write_html
from harness.report.section import build_report, choose_sections, sections

FRAME: Final = (
    '<iframe srcdoc="{page}" sandbox="allow-scripts allow-downloads" title="{title}" '
    'style="width: 100%; height: 640px; border: 1px solid #8884; border-radius: 6px"></iframe>'
)
"""The page stands in a frame: neither its style nor its script reaches the notebook."""


@dataclass(frozen=True, slots=True, repr=False)
class Comparison:
    """A report of results, as `python -m harness.compare` makes it.

    In a notebook it shows itself with all sections and figures; `print` shows it as a terminal
    does. `Results.compare` makes one.
    """

    _request: Request
    _section: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        """The sentences that say which contender leads, and how sure that is."""
        (section,) = choose_sections(["verdict"])
        report = build_report(self._request.results, self._request.question, [section])
        texts = [
            block.text
            for of, record in report.parts
            for block in of.blocks(record)
            if isinstance(block, Paragraph)
        ]
        return "\n".join(texts)

    @told_plainly
    def to_html(self, path: str | PathLike[str]) -> None:
        """Writes the whole report as one page that loads nothing.

        Args:
            path: the file to write.

        Raises:
            InputError: the file cannot be written.
        """
        write_html([self._request], Path(path))

    def to_text(self, path: str | PathLike[str] | None = None) -> str:
        """Returns the report as a terminal shows it. See `to_markdown`."""
        return self._write("table", path)

    def to_markdown(self, path: str | PathLike[str] | None = None) -> str:
        """Returns the report as markdown.

        Args:
            path: a file to write the text to as well.

        Raises:
            InputError: the file cannot be written.
        """
        return self._write("markdown", path)

    def to_latex(self, path: str | PathLike[str] | None = None) -> str:
        """Returns the report as LaTeX. See `to_markdown`."""
        return self._write("latex", path)

    def to_csv(self, path: str | PathLike[str] | None = None) -> str:
        """Returns one row for each config, in full precision. See `to_markdown`."""
        return self._write("csv", path)

    def to_json(self, path: str | PathLike[str] | None = None) -> str:
        """Returns everything the report says, as JSON (docs/compare.schema.json). See
        `to_markdown`."""
        return self._write("json", path)

    @told_plainly
    def _write(self, form: str, path: str | PathLike[str] | None) -> str:
        text = render([self._request], form, self._section)
        if path is not None:
            try:
                Path(path).write_text(text, encoding="utf-8")
            except OSError as error:
                raise InputError(f"{path}: cannot be written: {error.strerror}") from None
        return text

    def __str__(self) -> str:
        return self.to_text().rstrip()

    __repr__ = __str__

    def _repr_html_(self) -> str:
        from harness.report.html import html as make_page

        wanted = choose_sections(self._section) if self._section else sections()
        page = make_page([build_report(self._request.results, self._request.question, wanted)])
        title = html.escape(f"comparison of {self._request.label}")
        return FRAME.format(page=html.escape(page), title=title)


def one_or_several(names: str | Sequence[str]) -> tuple[str, ...]:
    """Returns names that are given as one or as a list."""
    return (names,) if isinstance(names, str) else tuple(names)
