"""`zipfs doctor`."""

import json

from zipfs.commands import common

_DESCRIPTION = """\
Checks what mounts need on this machine: the FUSE device, its helper and
libraries, the kernel and what it permits, limits of memory and of open files,
the code for this CPU, and mounts whose daemon has gone. Tries a mount at a
temporary folder. Says what to do; ends with exit code 1 if mounts do not work.
"""


def add(commands) -> None:
    parser = common.add_command(commands, "doctor", _doctor, "check what mounts need on this machine", _DESCRIPTION)
    common.add_json(parser)


def _doctor(as_json: bool) -> int:
    from zipfs.doctor import FAILURE, examine

    findings = []
    for finding in examine():
        findings.append(finding)
        if not as_json:
            print(f"{finding.status:8} {finding.name:16} {finding.found}", flush=True)
            if finding.remedy:
                print(f"{'':8} {'':16} -> {finding.remedy}")
    if as_json:
        print(json.dumps([finding._asdict() for finding in findings], indent=2))
    return int(any(finding.status == FAILURE for finding in findings))
