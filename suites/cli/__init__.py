"""The command line ``adm``; each file holds the commands of one area and loads what they need when they run."""

from __future__ import annotations

import typer

from suites.cli import (
    cleaning,
    comparing,
    deploying,
    doctor,
    exporting,
    insight,
    listing,
    merging,
    methods,
    migrating,
    planning,
    publishing,
    reporting,
    running,
    samples,
    submitting,
    tuning,
)

app = typer.Typer(
    name="adm",
    help="ADM-Bench: online and offline knowledge distillation, compared. Try: adm run quick",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    add_completion=False,
)
app.add_typer(listing.app, name="list")
for command in (planning.plan, running.run, planning.status, planning.logs, submitting.cancel):
    app.command()(command)
app.command(cls=reporting.ReportCommand)(reporting.report)
app.command()(reporting.power)
app.command()(publishing.publish)
app.command()(tuning.tune)
app.command()(exporting.export)
app.command()(comparing.compare)
app.command()(insight.insight)
app.command()(samples.samples)
app.command()(deploying.deploy)
app.command()(cleaning.clean)
app.command()(migrating.migrate)
app.command()(merging.merge)
app.command(name="check")(methods.check)
app.command(name="new-method")(methods.new_method)
app.command()(doctor.doctor)
