"""``python -m benchmarks``: measure the router next to nginx, HAProxy, Envoy, Traefik and Caddy."""

from __future__ import annotations

import argparse
import datetime
import json
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NoReturn

from benchmarks import against, cluster
from benchmarks.changes import EDITS, RATE, measure_changes
from benchmarks.picture import draw
from benchmarks.processes import Children
from benchmarks.report import OURS, as_markdown
from benchmarks.run import Bench, pick_peers, results_as_json, version_of
from benchmarks.scenarios import SCENARIOS
from benchmarks.tools import REPOSITORY, MissingToolError, commit, machine, prepare

_CHANGES = "changes"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, write the result file and its picture, print the table. Return 0, or 2 if something is missing."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words and words[0] in cluster.MEASURES:
        return cluster.main(words)
    if words[:1] == ["steps"]:
        from benchmarks import steps  # it needs the tests

        return steps.main(words[1:])
    options = _options(words)
    try:
        before = against.resolve(options.against) if options.against else ""
        tools = prepare()
    except (MissingToolError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    scenarios = {name: SCENARIOS[name] for name in options.scenarios if name != _CHANGES}
    signal.signal(signal.SIGTERM, _stop)
    results: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "commit": commit(),
        "command": "python -m benchmarks " + " ".join(words),
        "machine": machine(),
        "rounds": options.rounds,
        "seconds": options.seconds,
    }
    # In memory, so that no disk is measured.
    home = Path(tempfile.mkdtemp(prefix="drycc-bench-", dir="/dev/shm"))
    home.chmod(0o711)  # workers that gave up root have to find their way to what they serve
    try:
        with ExitStack() as stack:
            peers = pick_peers(tools)
            if before:
                tree = stack.enter_context(against.checked_out(before))
                peers = [peers[0], against.Before(f"{OURS}-{before}", tree)]
                results["against"] = before
            peers = [peer for peer in peers if not options.only or peer.name in options.only]
            results["versions"] = {peer.name: version_of(peer) for peer in peers}
            children = stack.enter_context(Children())
            bench = Bench(tools, children, home, tell=lambda line: print(line, flush=True))
            measured = bench.measure(scenarios, peers, options.rounds, options.seconds, together=bool(before))
            results["scenarios"] = results_as_json(measured, SCENARIOS)
            if _CHANGES in options.scenarios and any(peer.name == OURS for peer in peers):
                results[_CHANGES] = measure_changes(bench, options.edits, options.rate)
            results["features"] = bench.features
    except KeyboardInterrupt:
        print("stopped; nothing was written", file=sys.stderr)
        return 130
    finally:
        shutil.rmtree(home, ignore_errors=True)
    _write(results, options.out)
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    names = [*SCENARIOS, _CHANGES]
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=5, help="length of one measurement (default %(default)s)")
    parser.add_argument("--only", type=_names, default=[], help="comma list of proxies (default: all)")
    parser.add_argument("--scenarios", type=_names, help=f"comma list of: {', '.join(names)}")
    parser.add_argument(
        "--against",
        metavar="COMMIT",
        default="",
        help=f"measure nobody but the router of this commit beside ours, in {', '.join(against.SCENARIOS)}",
    )
    parser.add_argument(
        "--edits", type=int, default=EDITS, help="edits of the scenario 'changes' (default %(default)s)"
    )
    parser.add_argument("--rate", type=float, default=RATE, help="its requests per second (default %(default)s)")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "benchmarks/results", help="where the results go")
    options = parser.parse_args(arguments)
    if options.scenarios is None:
        options.scenarios = [*against.SCENARIOS] if options.against else names
    if unknown := set(options.scenarios) - set(names):
        parser.error(f"unknown scenarios: {', '.join(sorted(unknown))}")
    if options.against and (others := [name for name in options.scenarios if not against.is_comparable(name)]):
        parser.error(f"--against compares processor time, of which these tell nothing: {', '.join(others)}")
    return options


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def _stop(_number: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt  # so that SIGTERM ends the children in the same way as Ctrl-C


def _write(results: dict[str, Any], out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    before = results.get("against")
    stem = out / f"{results['date']}-{results['commit']}{f'-against-{before}' if before else ''}"
    stem.with_name(f"{stem.name}.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    if before:
        print("\n".join(against.summary(results["scenarios"], OURS, f"{OURS}-{before}")))
        return
    stem.with_name(f"{stem.name}.svg").write_text(draw(results), encoding="utf-8")
    print()
    print(as_markdown(results, stem.as_posix()))


if __name__ == "__main__":
    sys.exit(main())
