"""After a search: the finalists and the baseline again on fresh seeds (`confirming`), and what that shows."""

from search.confirm.picture import picture as picture
from search.confirm.result import Arm as Arm
from search.confirm.result import Confirmation as Confirmation
from search.confirm.result import Finalist as Finalist
from search.confirm.result import Settings as Settings
from search.confirm.result import settings as settings
from search.confirm.shown import sentences as sentences
from search.confirm.shown import tables as tables
from search.confirm.shown import take as take
from search.confirm.stored import FILE as FILE
from search.confirm.stored import load as load
from search.confirm.stored import missing as missing
from search.confirm.stored import stored as stored
