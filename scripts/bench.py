"""The command line of scripts/bench: one subcommand per benchmark."""

import argparse
import json
import sys

from benchmarks import codec, loaders, mount, servers, tensors


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench", description="Measures zipfs beside its peers in one run.")
    commands = parser.add_subparsers(dest="command", required=True)
    for module in (codec, mount, loaders, tensors):
        command = commands.add_parser(module.NAME, help=module.HELP)
        command.add_argument("--json", action="store_true", help="print JSON instead of Markdown")
        command.add_argument(
            "--quick", action="store_true", help="small data and few runs: to see that it works, not to quote"
        )
        module.add_arguments(command)
        command.set_defaults(run=module.run, to_markdown=module.to_markdown)
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    try:
        report = arguments.run(arguments)
    except servers.Missing as reason:
        raise SystemExit(f"scripts/bench: {reason}") from None
    report.setdefault("command", "scripts/bench " + " ".join(sys.argv[1:]))
    print(json.dumps(report, indent=2) if arguments.json else arguments.to_markdown(report))


main()
