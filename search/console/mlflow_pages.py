"""Addresses of MLflow's pages, from the server's root on, in the mode of trainings.

MLflow 3 has two modes. An address that names none shows a new browser the pages of language models: the same run among
"Evaluation runs", and an experiment as an empty overview.
"""

MODE = "workflowType=machine_learning"
TRIALS, IMAGES = "trials", "samples"  # the saved views of an experiment's runs: a table, and what each draws


def view_page(experiment: str, view: str) -> str:
    """The runs of an experiment in a saved view."""
    charts = "&compareRunsMode=CHART" if view == IMAGES else ""
    return f"#/experiments/{experiment}/runs?{MODE}&viewStateShareKey={view}{charts}"


def run_page(experiment: str, run_id: str, more: str = "") -> str:
    """A run; `more` is a part of its page, such as /artifacts/report.html."""
    return f"#/experiments/{experiment}/runs/{run_id}{more}?{MODE}"
