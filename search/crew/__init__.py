"""Several processes at one search on one machine: who starts the others, and what such a process does.

A worker is the command that was typed, once more. It begins trials by itself, as any process that reaches the storage;
what it says goes line by line, as JSON, to the one that started it, and when there are no more trials it takes orders:
trainings of the confirmation. It ends with its starter, whatever ends that.
"""

from search.crew.crew import Crew as Crew
