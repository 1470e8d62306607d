"""Questions and their answers, as pages pass them on."""

from typing import Any

from counterpoint.studio.pages.rendering import Pages
from counterpoint.studio.questions import Question


def answer_of(pages: Pages, question: Question) -> tuple[str, dict[str, Any] | None]:
    """The key of a question and its answer where that is there already; nothing is started.

    Raises:
        Refused: 404, no such photograph.
    """
    key = pages.studio.key(question)
    return key, pages.studio.answer(key)


def question_text(question: Question) -> str:
    """The question as a form carries it."""
    return question.model_dump_json()
