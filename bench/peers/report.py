"""From bench/results/*.json to plots beside them and to the part of README.md between its marks."""
import json

import harness
import plot
import scenarios
from runner import ALL, FORMAT

BEGIN, END = "<!-- figures: written by bench/peers --write-readme -->", "<!-- end of figures -->"
COST_BEGIN, COST_END = "<!-- cost: written by bench/peers --write-readme -->", "<!-- end of cost -->"
# An axis along which the cost of a message is told in words, what it costs there, and why.
COSTS = (
    ("deep", "messages that wait",
     "No growth shows: each place is one run, and they go up and down. What a message costs that comes to wait, the memory it takes, and the "
     "time to the first delivery after `kill -9` stand in the table."),
    ("domains", "recipient domains",
     "Not their number costs but the connections that they need: each domain asks the name server two questions and has a connection of its own, "
     "which the fewer messages share the more domains there are; with the most of them nearly each message pays for one. What a connection costs is "
     "told by `tuning/measure.py per_connection` ([tuning](../tuning/README.md#what-each-knob-does))."),
    ("size", "octets of a message",
     "An octet is read, written to the log, and written out again; from a hundred thousand or so on they cost more than all else. The largest has "
     "few messages, and more of them at once than memory holds for delivery: they are read back from the disk."),
    ("sessions", "sessions",
     "One session alone waits for each of its commits, and a sync and the waking of every thread on the way are paid by one message; with "
     "more sessions a sync, a read and a write serve several. Why it rises again where there are very many was not taken apart."),
    ("lanes", "connections to each domain",
     "Hardly at all: what differs is within what runs of one place differ by. More connections than there is work for are opened and closed for little."),
    ("durability", "durability",
     "`relaxed` spares the sync; what is written is the same. One run of each does not show it; that of [tuning](../tuning/README.md#what-each-knob-does), "
     "three runs in turns by a client that pipelines, has 12 % more messages relayed, at 70 and 77 µs."),
)
OURS = ALL[0].name
# Key of a figure, its name in tables and plots, digits behind the point.
MEASURES = (
    ("relayed_per_s", "relayed/s", 0),
    ("accepted_per_s", "accepted/s", 0),
    ("cpu_s_per_1000", "CPU s per 1,000", 3),
    ("rss_peak_mib", "memory, MiB", 0),
    ("accept_p50_ms", "250 p50, ms", 1),
    ("accept_p99_ms", "250 p99, ms", 1),
    ("end_to_end_p50_ms", "end to end p50, ms", 1),
    ("end_to_end_p99_ms", "end to end p99, ms", 1),
    ("octets_per_silent_session", "octets a silent session", 0),
    ("fill_per_s", "filled/s", 0),
    ("fill_cpu_s_per_1000", "CPU s per 1,000 filled", 3),
    ("rss_deep_mib", "memory with the queue, MiB", 0),
    ("octets_per_waiting", "octets a waiting message", 0),
    ("restart_s", "start after kill -9, s", 1),
    ("restart_to_first_delivery_s", "first delivery after it, s", 1),
)
# The measures of a plot, by whether the scenario has them.
PLOTTED = ("relayed_per_s", "accepted_per_s", "cpu_s_per_1000", "accept_p99_ms", "fill_cpu_s_per_1000", "rss_deep_mib", "restart_to_first_delivery_s",
           "rss_peak_mib")
PANELS_MAX = 8
TROUBLE = ("lost", "duplicates", "failed", "failed_filling")


def results(directory):
    """Those that this tool wrote, in the order of axes.toml."""
    found = []
    for name in scenarios.read({}):
        file = directory / f"{name}.json"
        if file.exists():
            result = json.loads(file.read_text())
            if result.get("format") == FORMAT and result["points"]:
                found.append(result)
    return found


def figures_of(result):
    """(value, server, figures) for all that was measured."""
    return [(point["value"], name, own["figures"]) for point in result["points"] for name, own in point["peers"].items()]


def is_numeric(result):
    values = [point["value"] for point in result["points"]]
    return len(values) > 1 and all(isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0 for value in values)


def panel(result, key, name):
    rows = [(value, server, own[key]) for value, server, own in figures_of(result) if own.get(key) and own[key]["median"] > 0]
    if not rows:
        return None
    if not is_numeric(result):
        return plot.bar_panel(name, [
            (f"{result['label']}: {value}" if result["axis"] else "", server, f["median"], f["min"], f["max"]) for value, server, f in rows])
    series = {}
    for value, server, f in rows:
        series.setdefault(server, []).append((value, f["median"], max(f["min"], f["median"] / 1e3), f["max"]))
    return plot.line_panel(name, result["label"], series)


def draw(directory, result):
    """The scenario's plot; its file name, or None where nothing was measured."""
    names = {key: name for key, name, _ in MEASURES}
    panels = [made for key in PLOTTED if (made := panel(result, key, names[key]))][:PANELS_MAX]
    if not panels:
        return None
    file = directory / f"{result['scenario']}.svg"
    file.write_text(plot.figure(result["what"], panels))
    return file.name


def cell(figure, digits):
    return "" if figure is None else harness.cell(figure, digits)


def table(result):
    measured = figures_of(result)
    keys = [(key, name, digits) for key, name, digits in MEASURES if any(key in own for _, _, own in measured)]
    head = ([result["label"]] if result["axis"] else []) + ["server"] + [name for _, name, _ in keys]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for value, server, own in measured:
        row = ([shown(value)] if result["axis"] else []) + [server] + [cell(own.get(key), digits) for key, _, digits in keys]
        lines.append("| " + " | ".join(row) + " |")
    return lines


def shown(value):
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def remarks(result):
    """What was not measured, and what went wrong where it was: each by name."""
    lines = unmeasured(result)
    for point in result["points"]:
        place = f"{result['label']} {point['value']}: " if result["axis"] else ""
        lines += [f"* Not compared: {place}{name}: {reason}." for name, reason in point["skipped"].items()]
        for name, own in point["peers"].items():
            for key in TROUBLE:
                most = own["figures"].get(key, {"max": 0})["max"]
                if most:
                    lines.append(f"* {place}{name}: up to {most:,.0f} {key.replace('_', ' ')} in a run.")
    return lines


def unmeasured(result):
    """Places without any figure, and servers that a place has no figure of and no reason why: those were left out by whoever ran it."""
    points = {point["value"]: point for point in result["points"]}
    places = [value for value, _ in scenarios.read({})[result["scenario"]].points]
    lines = []
    if empty := [shown(value) for value in places if value not in points]:
        lines.append(f"* Not measured: {result['label']} {', '.join(empty)}.")
    absent = {}
    for peer in ALL:
        own = tuple(value for value, point in points.items() if peer.name not in point["peers"] and peer.name not in point["skipped"])
        if own:
            absent.setdefault(own, []).append(peer.name)
    for values, names in absent.items():
        where = "" if len(values) == len(points) else f"{result['label']} {', '.join(map(shown, values))}: "
        lines.append(f"* Not measured: {where}{', '.join(names)}.")
    return lines


def extent(values, show="{:g}"):
    """One value, or the least and the most."""
    least, most = show.format(min(values)), show.format(max(values))
    return least if least == most else f"{least} to {most}"


def section(directory, result):
    drawn = draw(directory, result)
    runs = [own for point in result["points"] for own in point["peers"].values()]
    if runs:
        times = sorted(own["measured"]["time"] for own in runs)
        commits = dict.fromkeys(
            own["measured"]["commit"] + (" with changes" if own["measured"]["changed_since"] else "") for own in runs)
        about = (f"Median of {extent([own['rounds'] for own in runs])} runs of about {extent([own['seconds'] for own in runs])} s, least and most "
                 f"in brackets. {' to '.join(dict.fromkeys((times[0], times[-1])))}, commit {', '.join(commits)}, load before "
                 f"{extent([own['measured']['load_before'] for own in runs], '{:.2f}')}.")
    else:
        about = "Nothing was measured here."
    about = f"{result['what']} {about}"
    lines = [f"### {result['scenario']}", "", about, ""]
    if drawn:
        lines += [f"![{result['scenario']}](results/{drawn})", ""]
    return [*lines, *table(result), "", *remarks(result), ""]


def described(machine):
    return (f"{machine['cpu']}, {machine['cpus']} CPUs, {machine['memory_mib'] / 1024:.0f} GiB, Linux {machine['kernel']}, "
            f"queues on {machine['disk']}; CPU time from {machine['accounting']}")


def servers(found):
    """What a 250 means is told by a server's class, which may have learnt to say it better since a result was written."""
    known, told = {}, {peer.name: peer.durability for peer in ALL}
    for result in found:
        known |= result["servers"]
    lines = ["| server | version | a 250 means |", "|---|---|---|"]
    for name, about in known.items():
        durability = told.get(name, about["durability"])
        if not durability or not all(durability.values()):
            raise SystemExit(f"bench: nothing says what a 250 of {name} means: durability of its class is empty")
        meaning = "; ".join(f"{mode}: {text}" for mode, text in durability.items())
        lines.append(f"| {name} | {about['version']} | {meaning} |")
    return lines


def listed(words):
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def costs(found):
    """What a message costs us along the axes that have figures."""
    by_name = {result["scenario"]: result for result in found}
    lines = []
    for name, axis, why in COSTS:
        rows = [(value, own["cpu_s_per_1000"]["median"]) for value, server, own in figures_of(by_name.get(name, {"points": []}))
                if server == OURS and "cpu_s_per_1000" in own]
        if rows:
            figures, places = listed([f"{cost:.3f}" for _, cost in rows]), listed([shown(value) for value, _ in rows])
            lines.append(f"* **With {axis}**: {figures} ms for {places} ([{name}](#{name})). {why}")
    return lines


def replaced(text, begin, end, lines, name):
    """The text with these lines between its marks."""
    before, opening, rest = text.partition(begin)
    _, closing, after = rest.partition(end)
    if not opening or not closing:
        raise SystemExit(f"bench: {name} lacks the marks {begin} and {end}")
    return before + opening + "\n".join(["", *lines]) + closing + after


def write(directory, readme):
    found = results(directory)
    lines = [""]
    if found:
        by_machine = {}
        for result in found:
            by_machine.setdefault(described(result["machine"]), []).append(result["scenario"])
        for machine, names in by_machine.items():
            lines += [machine + ("." if len(by_machine) == 1 else f": {', '.join(names)}."), ""]
        known = {result["scenario"] for result in found}
        without = [name for name in scenarios.read({}) if name not in known]
        elsewhere = [name for name in without if (directory / "postfix" / f"{name}.json").exists()]
        if elsewhere:
            lines += [f"Beside Postfix alone, in `results/postfix`: {', '.join(elsewhere)}.", ""]
        if without := [name for name in without if name not in elsewhere]:
            lines += [f"Without a result: {', '.join(without)}.", ""]
        lines += [*servers(found), ""]
        for result in found:
            lines += section(directory, result)
    else:
        lines += ["Nothing was measured yet: `make bench` does.", ""]
    text = replaced(readme.read_text(), BEGIN, END, lines, readme)
    readme.write_text(replaced(text, COST_BEGIN, COST_END, [*costs(found), ""], readme))
    print(f"{readme}: {len(found)} scenarios")
