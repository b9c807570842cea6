"""Rounds: servers in turns, medians with their spread, one JSON file a scenario."""
import json
import os
import pathlib
import subprocess
import sys

import accounts
import harness
import measure
from exim import Exim
from haraka import Haraka
from install import Missing
from opensmtpd import OpenSmtpd
from postfix import Postfix
from posthaste import Posthaste
from world import World

ALL = (Posthaste, Postfix, Exim, OpenSmtpd, Haraka)
FORMAT = 2
# What makes it another machine, so that its figures stand in no table with others.
SAME = ("cpu", "cpus", "memory_mib", "kernel", "disk", "accounting")


def peers(wanted):
    known = {peer.name: peer for peer in ALL}
    unknown = [name for name in wanted if name not in known]
    if unknown:
        sys.exit(f"bench: no server {', '.join(unknown)}; there are {', '.join(known)}")
    return [known[name] for name in wanted] if wanted else list(ALL)


def install(wanted):
    """Fetches what is missing; gives why a server cannot be had, by its name."""
    absent = {}
    for peer in wanted:
        try:
            peer.install()
        except Missing as missing:
            absent[peer.name] = str(missing)
    return absent


def facts(absent):
    """What the figures belong to, as JSON."""
    base = os.environ.get("BENCH_DIR") or "/var/tmp"
    disk = subprocess.run(["findmnt", "-no", "FSTYPE", "-T", base], capture_output=True, text=True).stdout.strip()
    if disk == "tmpfs":
        print(f"bench: {base} is a tmpfs, where a sync costs nothing: set BENCH_DIR to a place on a disk", file=sys.stderr)
    return json.dumps({"machine": {**harness.machine(), "disk": disk}, "absent": absent})


def measure_point(world, scenario, point, candidates, skipped):
    """All rounds of one place on the axis, servers in turns."""
    counts, runs = {}, {}
    for peer in candidates:
        reason = peer.refuses(point.setting(False), scenario.axis == "connections")
        if reason is None and peer.needs_root and not world.is_root:
            reason = "starts as root only"
        if reason is None:
            try:
                counts[peer] = measure.calibrate(world, peer, scenario, point)
            except (Missing, harness.Failed) as failed:
                reason = str(failed)
        if reason is not None:
            skipped[peer.name] = reason
            say(f"  {peer.name:<12} skipped: {reason}")
    for number in range(point.rounds):
        # Each round begins with another server, so that none always follows the same one.
        turn = list(counts)[number % max(len(counts), 1):] + list(counts)[: number % max(len(counts), 1)]
        for peer in turn:
            try:
                figures = measure.one(world, peer, scenario, point, counts[peer])
            except (Missing, harness.Failed) as failed:
                skipped[peer.name] = f"round {number + 1}: {failed}"
                say(f"  {peer.name:<12} {skipped[peer.name]}")
                continue
            runs.setdefault(peer.name, []).append(figures)
            rate = figures.get("relayed_per_s") or figures["accepted_per_s"]
            say(f"  {peer.name:<12} {counts[peer]:>9,} messages {rate:>10,.0f}/s {figures['cpu_s_per_1000']:>9.3f} CPU s/1,000")
    messages = {peer.name: count for peer, count in counts.items()}
    found = {}
    for name, own in runs.items():
        figures = harness.spread(own)
        seconds = round(messages[name] / figures["accepted_per_s"]["median"], 1)
        found[name] = {"messages": messages[name], "rounds": len(own), "seconds": seconds, "figures": figures, "runs": own}
    return found


def kept(target, scenario, machine):
    """What earlier runs on this machine found; None where there is nothing, or of another axis, format or machine."""
    if not target.exists():
        return None
    old = json.loads(target.read_text())
    is_same = old.get("format") == FORMAT and old["axis"] == scenario.axis and all(old["machine"][key] == machine[key] for key in SAME)
    return old if is_same else None


def measure_scenario(world, scenario, candidates, absent, machine, values, target):
    """Measures places on the axis and keeps what earlier runs found at others and of other servers; `target` has what there is
    after each place, so that a run that is cut short is not lost."""
    say(f"{scenario.name}: {scenario.what}")
    old = kept(target, scenario, machine) or {"servers": {}, "points": []}
    found = {point["value"]: point for point in old["points"]}
    servers = {peer.name: {"package": peer.package, "version": peer.version, "durability": peer.durability} for peer in candidates}
    result = {
        "format": FORMAT, "scenario": scenario.name, "what": scenario.what, "axis": scenario.axis, "label": scenario.label,
        "machine": machine, "servers": {**old["servers"], **servers}, "points": [],
    }
    for value, point in scenario.points:
        if values and str(value) not in values:
            continue
        if scenario.axis:
            say(f" {scenario.label}: {value}")
        about = {key: machine[key] for key in ("commit", "changed_since")} | harness.moment()
        skipped = dict(absent)
        results = measure_point(world, scenario, point, candidates, skipped)
        place = found.setdefault(value, {"value": value, "peers": {}, "skipped": {}})
        for peer in candidates:
            place["peers"].pop(peer.name, None)
            place["skipped"].pop(peer.name, None)
        place["peers"] |= {name: {"measured": about, **one} for name, one in results.items()}
        place["skipped"] |= skipped
        result["points"] = [found[value] for value, _ in scenario.points if value in found]
        harness.write(target, result)


def measure_all(world, picked, candidates, absent, machine, args):
    values = set(args.values.split(",")) if args.values else None
    for scenario in picked:
        target = args.out / f"{scenario.name}.json"
        measure_scenario(world, scenario, candidates, absent, machine, values, target)
        say(f"  → {target}")


def measure_in_world(picked, wanted, args):
    measure.raise_files()
    work = pathlib.Path(os.environ["BENCH_WORLD"])
    known = json.loads((work / "machine.json").read_text())
    absent = known["absent"]
    for name, reason in absent.items():
        say(f"{name}: skipped: {reason}")
    candidates = [peer for peer in wanted if peer.name not in absent]
    for peer in candidates:
        peer.install()
    world = World([peer.root for peer in candidates if peer.package != "Haraka" and peer.root])
    account = "cgroup" if world.cgroup else "proc"
    machine = {**known["machine"], "accounting": accounts.Cgroup.source if account == "cgroup" else accounts.Everybody.source}
    world.serve_names()
    try:
        measure_all(world, picked, candidates, absent, machine, args)
    finally:
        world.names.terminate()
        world.names.wait()
    return 0


def say(line):
    print(line, flush=True)
