"""After a search: the finalists and the baseline again on fresh seeds (`trainings`), and what that shows."""

from search.confirm.result import FILE as FILE
from search.confirm.result import Confirmation as Confirmation
from search.confirm.result import Settings as Settings
from search.confirm.result import load as load
from search.confirm.result import settings as settings
from search.confirm.shown import picture as picture
from search.confirm.shown import sentences as sentences
from search.confirm.shown import table as table
