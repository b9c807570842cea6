"""Posthaste beside the servers that Debian and npm hold: same client, sink, message and machine, in turns.

  python3 bench/peers                      the quick set: relay and accept, all servers (make bench)
  python3 bench/peers --full               every axis (make bench-full); hours
  python3 bench/peers --only relay,size --peers posthaste,postfix
  python3 bench/peers --only deep --values 1000,10000 --seconds 3 --rounds 1
                                           a part of an axis, in minutes; what others had stays in the results
  python3 bench/peers --list               scenarios and their points
  python3 bench/peers --write-readme       table and plots again from bench/results
"""
import argparse
import os
import pathlib
import shutil
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tools"))
import report
import runner
import scenarios
import world

TOOLS = ("unshare", "mount", "ip", "setpriv", "unbound")


def arguments():
    parser = argparse.ArgumentParser(
        prog="bench/peers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="every scenario")
    parser.add_argument("--only", metavar="NAME[,NAME]", default="", help="these scenarios")
    parser.add_argument("--peers", metavar="NAME[,NAME]", default="", help="these servers")
    parser.add_argument("--seconds", type=float, help="of one run, in place of what axes.toml says")
    parser.add_argument("--messages", type=int, help="of one run, in place of as many as it takes in that time")
    parser.add_argument("--rounds", type=int, help="runs of each server, likewise")
    parser.add_argument("--fill-seconds", type=float, dest="fill_seconds_max", help="of filling a queue (deep), likewise")
    parser.add_argument("--values", metavar="V[,V]", help="these places on the axis alone")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "bench" / "results", help="where results go")
    parser.add_argument("--write-readme", action="store_true", help="measure nothing; plots and README from the results")
    parser.add_argument("--list", action="store_true", help="measure nothing; name scenarios and servers")
    return parser.parse_args()


def chosen(args):
    changes = {key: value for key in ("seconds", "rounds", "messages", "fill_seconds_max") if (value := getattr(args, key)) is not None}
    known = scenarios.read(changes)
    wanted = [name for name in args.only.split(",") if name]
    unknown = [name for name in wanted if name not in known]
    if unknown:
        sys.exit(f"bench: no scenario {', '.join(unknown)}; there are {', '.join(known)}")
    if not wanted:
        wanted = [name for name in known if args.full or known[name].quick]
    picked = [known[name] for name in wanted]
    places = {str(value) for scenario in picked for value, _ in scenario.points}
    nowhere = [value for value in args.values.split(",") if value not in places] if args.values else []
    if nowhere:
        sys.exit(f"bench: {', '.join(nowhere)} is no place on an axis of {', '.join(wanted)}; --list names them")
    return picked


def main():
    args = arguments()
    args.out = args.out.absolute()
    picked = chosen(args)
    peers = runner.peers([name for name in args.peers.split(",") if name])
    if args.list:
        for scenario in picked:
            places = ", ".join(str(value) for value, _ in scenario.points if value is not None)
            print(f"{scenario.name:<12}{scenario.what}" + (f" [{places}]" if places else ""))
        print("servers:", ", ".join(peer.name for peer in peers))
        return 0
    if args.write_readme:
        report.write(args.out, ROOT / "bench" / "README.md")
        return 0
    if "BENCH_WORLD" in os.environ:
        return runner.measure_in_world(picked, peers, args)
    missing = [tool for tool in TOOLS if shutil.which(tool, path=os.environ["PATH"] + ":/usr/sbin:/sbin") is None]
    if missing:
        sys.exit(f"bench: missing: {', '.join(missing)}; tools/deps.sh bench installs them")
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    # Outside of the world: there is no network inside.
    absent = runner.install(peers)
    args.out.mkdir(parents=True, exist_ok=True)
    status = world.enter(sys.argv, runner.facts(absent))
    if status == 0 and args.out == ROOT / "bench" / "results":
        report.write(args.out, ROOT / "bench" / "README.md")
    return status


sys.exit(main())
