"""One self-contained HTML file of a benchmark's results. Nothing is asked of a network: it opens from disk, years later too."""

from counterpoint.report.page.writing import write_report

__all__ = ["write_report"]
