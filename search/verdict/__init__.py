"""What a search says about each choice: the options ranked, those that cannot be told apart sharing a rank.

judge(records, choice, baseline, ...) -> Verdict; table, picture and sentences show one; files writes what is found as
artifacts, read takes them back.
"""

from search.verdict.arm import Arm, Chance
from search.verdict.findings import NAME, Findings, files, read, show
from search.verdict.judge import Row, Verdict, judge
from search.verdict.learning_rate import LrRange
from search.verdict.picture import picture
from search.verdict.shown import sentences, table

__all__ = [
    "NAME",
    "Arm",
    "Chance",
    "Findings",
    "LrRange",
    "Row",
    "Verdict",
    "files",
    "judge",
    "picture",
    "read",
    "sentences",
    "show",
    "table",
]
