"""What is learned of the data, and what is lost of it."""

from __future__ import annotations

from autofit.domain.workload import DataProfile, Learned, RowCounts

from .line import WIDTH, Line, labelled

_LEARNED = {
    Learned.TEXTS: "every token of a row",
    Learned.ANSWERS: "the answers, not their prompts",
    Learned.LABELS: "what the rows' labels and masks say",
    Learned.EVERYTHING: "every turn of a chat",
    Learned.MARKED_TURNS: "the assistant's turns, as the chat template marks them",
    Learned.TWIN_TURNS: "the assistant's turns, as trl's training copy of the chat template marks them",
    Learned.COMPARED_TURNS: "the assistant's turns, told by comparing the chats as they grow",
    Learned.UNTOLD_TURNS: "every turn of a chat: its template does not tell the turns apart",
    Learned.PREFERENCES: "which of two answers is the better one",
    Learned.JUDGEMENTS: "which answers are good ones and which are bad",
    Learned.REWARDS: "what the rewards say of the model's own answers",
}


def data_lines(profile: DataProfile, *, width: int = WIDTH) -> list[Line]:
    """One line on what is learned, and one for each source that loses something; none where nobody looked at rows."""
    lines = labelled("learns", _LEARNED[profile.learned], width=width) if profile.learned is not None else []
    for label, counts in (("rows", profile.rows), ("eval", profile.eval_rows)):
        if counts is not None and (counts.lost or counts.cut):
            lines += labelled(label, rows_text(counts), width=width)
    return lines


def rows_text(counts: RowCounts) -> str:
    """What becomes of rows: `400 in all · 31 cut at --seq, 12 of these lose a part of what is learned`, and so on."""
    parts = [
        (counts.dropped, f"{counts.dropped:,} dropped: all that is learned of them lies beyond --seq"),
        (counts.too_long, f"{counts.too_long:,} left out: longer than --seq"),
        (counts.empty, f"{counts.empty:,} left out: nothing in them to learn from"),
        (counts.cut, f"{counts.cut:,} cut at --seq, {counts.cut_answers:,} of these lose a part of what is learned"),
    ]
    return " · ".join([f"{counts.total:,} in all", *(text for count, text in parts if count)])
