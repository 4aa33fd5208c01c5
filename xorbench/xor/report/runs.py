"""The report of a run: machine, command, tables and pictures."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from xorbench.machine import quiet
from xorbench.records.schema.run import Run, RunInfo
from xorbench.report.content import Content, Section
from xorbench.report.details import flattened, machine_line, software
from xorbench.verdicts import Verdict
from xorbench.xor.analysis.evidence import Evidence
from xorbench.xor.compare.baseline import WithBaseline
from xorbench.xor.matrix.not_tested import not_tested
from xorbench.xor.report.compare import ratios
from xorbench.xor.report.plots import PLOTS
from xorbench.xor.report.summary import answers
from xorbench.xor.report.tables import TABLES, Table


def content(
    evidence: Evidence, verdicts: Sequence[Verdict], baseline: WithBaseline | None = None
) -> Content:
    """The content of a run's report, with its comparison with a baseline, if there is one."""
    run = evidence.run
    sections = [_section(table, evidence, verdicts) for table in TABLES.values()]
    if baseline is not None:
        title = f"Time ÷ time of the baseline {baseline.name}"
        about = f"B is this run, A the baseline {baseline.comparison.a}."
        sections.append(Section("baseline", title, ratios(baseline.comparison), about))
    return Content(
        id=run.info.id,
        schema_version=run.info.schema_version,
        anonymous=run.info.anonymous,
        heading=heading(run),
        sections=sections,
        pictures=[replace(plot, data=partial(plot.data, evidence)) for plot in PLOTS.values()],
        verdicts=verdicts,
        answers=answers(evidence, verdicts, baseline),
        environment=environment(run),
        again=[run.info.command],
        not_tested=not_tested(run.skips),
    )


def _section(table: Table, evidence: Evidence, verdicts: Sequence[Verdict]) -> Section:
    frame = table.make(evidence, verdicts)
    return Section(
        name=table.name,
        title=table.title,
        frame=table.brief(frame) if table.brief else frame,
        about=table.about,
        csv=table.filed(frame),
        terminal=table.terminal,
        optional=table.optional,
        lines=table.lines and table.lines(frame),
    )


def heading(run: Run) -> list[tuple[str, str]]:
    """The origin of the numbers: machine, versions, command, date, injected faults."""
    info = run.info
    machine = run.machine
    devices = ", ".join(str(d.get("name", d["device"])) for d in machine.get("devices", []))
    rows = [
        ("run", info.id + (f" ({info.name})" if info.name else "")),
        ("command", info.command),
        ("started", info.started),
        ("finished", info.finished or "not yet"),
        ("machine", machine_line(info.host)),
        ("accelerator", devices or "none"),
        ("system", f"{machine.get('os', '?')} {machine.get('machine', '')}"),
        ("software", _software_text(run)),
        ("processes", _processes(info)),
    ]
    rows.append(("system samples", quiet.summary(run.system_samples)))
    if info.stress:
        rows.append(("under load", f"--stress {info.stress}: speeds are not comparable"))
    if info.faults:
        rows.append(("INJECTED FAULTS", "; ".join(info.faults)))
    return rows


def _processes(info: RunInfo) -> str:
    """The number of processes, and of configs if there are several."""
    configs = len(info.configs)
    under = "" if configs == 1 else f", {info.processes_per_config} under each of {configs} configs"
    return f"{configs * info.processes_per_config} fresh processes{under}"


def _software_text(run: Run) -> str:
    """The software of the processes; by config if it differs."""
    by_config = {
        process.config.id: software(process.machine)
        for process in reversed(run.info.processes)
        if process.machine
    }
    if len(set(by_config.values())) < 2:
        return next(iter(by_config.values()), "unknown")
    return "; ".join(f"{config}: {text}" for config, text in reversed(by_config.items()))


def environment(run: Run) -> list[tuple[str, str]]:
    """All details of the host and the first process, for a bug report."""
    return [*flattened("host", run.info.host), *flattened("", run.machine)]
