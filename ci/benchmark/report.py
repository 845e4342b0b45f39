"""docs/benchmarks.md: tables, charts, the machine and the commands; and a part that people write."""

from benchmark import charts
from benchmark.contestants import SECTIONS
from benchmark.targets import judge

BEGIN, END = "<!-- written by hand: begin -->", "<!-- written by hand: end -->"
INTRODUCTION = """# Benchmarks

Written by `ci/bench`, but for the section between the two markers below; run it to get the figures of your machine.

Contestants take turns, round by round. Wall time is the median of all rounds with the least and the most in brackets;
CPU seconds are those of all processes of a tool, those that it leaves behind and those that the server starts for it
included, the server's own not (but in recoveries). Memory is the most that was ever seen: of the largest process, and
of all at once (sampled every 0.1 s). What the instrument itself adds is in the row of `true`. Stored is what the
repository has grown by, WAL that was archived during a backup included. What is read lies in the page cache; what was
written before is on the disk when a turn begins. pgbackrest runs with `start-fast`, everything else of *defaults* is
as each tool comes; with *zstd 3*, pgbackrest also gets as many processes as there are cores, bundles and blocks, and
*async* its asynchronous archiving. Ratios are to the best pgbackrest of the same settings. Neither tool encrypts; on
S3 both speak TLS to the same server on the same machine, which takes its share of the cores. `s3-30ms` is the same
server behind a link that makes each question and its answer 30 ms longer. Why it is done like this, and what is left
out: [decision 0070](decisions/0070-benchmark.md).
"""


def write(options, rows, facts):
    path = options.output / "benchmarks.md"
    by_hand = hand_written(path)
    verdicts = judge(rows)
    parts = [INTRODUCTION, by_hand, machine(facts, rows), failures(rows), summary(verdicts)]
    for name, same in by_name(rows).items():
        parts.append(section(options, name, same, verdicts))
    parts.append(commands(rows))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(part for part in parts if part), encoding="utf-8")


def by_name(rows):
    """The rows of all stores under the name that they share, in the order in which the names first appear."""
    found = {}
    for row in rows:
        found.setdefault(row.name, []).append(row)
    return found


def hand_written(path):
    """The section between the markers, as it is."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    if BEGIN in text and END in text:
        return text[text.index(BEGIN):text.index(END) + len(END)] + "\n"
    return f"{BEGIN}\n{END}\n"


def machine(facts, rows):
    lines = [f"| {name} | {fact} |" for name, fact in facts.items()]
    lines.append(f"| all rows took | {sum(row.seconds for row in rows) / 60:.0f} min |")
    others = [f"`{row.full_name}` ({row.commit}, {row.date})" for row in rows if row.commit != facts["commit"]]
    if others:
        lines.append(f"| rows of other runs | {', '.join(others)} |")
    return "\n".join(["## The machine", "", "| | |", "|---|---|", *lines, ""])


def failures(rows):
    lines = []
    for row in rows:
        if row.failure:
            lines.append(f"- `{row.full_name}`: {one_line(row.failure)}")
        lines += [f"- `{row.full_name}`, {one.key}: {one_line(one.failure)}" for one in row.outcomes if one.failure]
    return "\n".join(["## FAILED", "", *lines, ""]) if lines else ""


def summary(verdicts):
    count = {outcome: sum(1 for one in verdicts if one.met is outcome) for outcome in (True, False, None)}
    head = f"{count[True]} targets met, {count[False]} missed, {count[None]} not measured."
    lines = [f"| `{one.row}` | {one.key} | {one.promise} | {one.found or '–'} | {one.outcome} |" for one in verdicts]
    return "\n".join(["## Targets", "", head, "", "| row | contestant | target | found | |",
                      "|---|---|---|---:|---|", *lines, ""])


def section(options, name, rows, verdicts):
    chart = charts.write(options.output / "benchmarks", name, rows)
    lines = [f"## {rows[0].title}", ""]
    if chart:
        lines += [f"![{rows[0].title}](benchmarks/{chart})", ""]
    lines += ["| store | contestant | wall s | CPU s | largest MiB | all MiB | stored MB | objects "
              "| × pgbackrest | target |", "|---|---|---:|---:|---:|---:|---:|---:|---:|---|"]
    for row in rows:
        lines += [table_line(row, one, verdicts) for one in row.outcomes]
        if row.failure:
            lines.append(f"| {row.store} | **FAILED** | {one_line(row.failure)} | | | | | | | |")
    return "\n".join([*lines, ""])


def table_line(row, outcome, verdicts):
    if outcome.failure:
        return f"| {row.store} | {outcome.key} | **FAILED**: {one_line(outcome.failure)} | | | | | | | |"
    median, walls = outcome.median, [turn.wall_seconds for turn in outcome.turns]
    targets = "<br>".join(one.text for one in verdicts if one.row == row.full_name and one.key == outcome.key)
    stored = "" if median.stored_bytes is None else f"{median.stored_bytes / 1e6:.2f}"
    objects = "" if median.objects is None else f"{median.objects:.0f}"
    wall = f"{seconds(median.wall_seconds)} ({seconds(min(walls))}–{seconds(max(walls))})"
    return (f"| {row.store} | {outcome.key} | {wall} | {seconds(median.cpu_seconds)} | {mib(median.largest_mib)} "
            f"| {mib(median.together_mib)} | {stored} | {objects} | {ratio(row, outcome)} | {targets} |")


def ratio(row, outcome):
    rivals = [one.median.wall_seconds for one in row.outcomes
              if one.tool == "pgbackrest" and one.section == outcome.section and one.median]
    if outcome.tool == "pgbackrest" or not rivals:
        return ""
    return f"{outcome.median.wall_seconds / min(rivals):.2f}"


def seconds(value):
    """Three significant digits, more or less."""
    if value is None:
        return ""
    return f"{value:.4f}" if value < 0.1 else f"{value:.3f}" if value < 1 else f"{value:.2f}"


def mib(value):
    return "" if value is None else f"{value:.0f}"


def one_line(text):
    return " ".join(text.split()).replace("|", "\\|")


def commands(rows):
    """One of each: what was run in the last round, with the work directory as `$WORK`."""
    lines = ["## Commands", "", "In a directory; of several in a row the first. `$WORK` is the temporary directory.",
             "What pgbackrest has in its configuration file besides paths stands above its command.", ""]
    for name, same in by_name(rows).items():
        lines += [f"`{name}`", "", "```"]
        outcomes = [one for row in same if row.store == "directory" or row.name == "recovery" for one in row.outcomes]
        lines += [f"# {one.key}\n{one.command}" for one in sorted(outcomes, key=by_section) if one.command]
        lines += ["```", ""]
    return "\n".join(lines)


def by_section(outcome):
    return SECTIONS.index(outcome.section)
