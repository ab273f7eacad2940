"""Testers of TLS: sslyze, against what Mozilla recommends, and testssl.sh."""

from __future__ import annotations

import json
from typing import Any

from tools.audit.places import INSIDE, TESTER, Target, on, version
from tools.audit.table import Found

# of the authority that this tool makes, and of a name that is in no DNS
OF_THE_AUTHORITY = ("cert_revocation", "DNS_CAArecord", "cert_chain_of_trust", "cert_trust")
SEVERE = ("MEDIUM", "HIGH", "CRITICAL", "FATAL")


def sslyze(target: Target) -> Found:
    """Compliant with Mozilla's intermediate configuration, or what is not."""
    options = f"--mozilla_config=intermediate --certinfo_ca_file={INSIDE}/authority.pem"
    said = on(TESTER, f"{INSIDE}/venv/bin/sslyze {options} {target.name}:443")
    verdict = said.stdout.partition("COMPLIANCE AGAINST TLS CONFIGURATION")[2]
    good = said.returncode == 0 and "OK - Compliant" in verdict
    wrong = [] if good else [line.strip() for line in verdict.splitlines() if line.strip().startswith("*")]
    wrong += [] if good or wrong else [f"no verdict: {(said.stdout + said.stderr)[-300:]}"]
    command = "sslyze --mozilla_config=intermediate --certinfo_ca_file=CA NAME:443"
    figure = "compliant" if good else f"not compliant: {'; '.join(wrong)}"
    return Found(f"sslyze {version('sslyze')}", command, target.kind, figure, "compliant", wrong)


def judge_testssl(report: dict[str, Any]) -> tuple[str, list[str]]:
    """The grade, and what is MEDIUM or worse and not of the test's own authority."""
    (scan,) = report["scanResult"]
    rated = {each["id"]: each["finding"] for each in scan.get("rating", [])}
    every = [each for part in scan.values() if isinstance(part, list) for each in part if isinstance(each, dict)]
    severe = [each for each in every if each.get("severity") in SEVERE and each["id"] not in OF_THE_AUTHORITY]
    return rated.get("overall_grade", "no grade"), [
        f"{each['id']} ({each['severity']}): {each['finding']}" for each in severe
    ]


def testssl(target: Target) -> Found:
    """Graded A+, and nothing of MEDIUM or above."""
    file = f"{INSIDE}/testssl.json"
    options = f"--quiet --color 0 --warnings batch --add-ca {INSIDE}/authority.pem --ip {target.address}"
    said = on(
        TESTER, f"rm -f {file}; testssl {options} --jsonfile-pretty {file} {target.name}:443 >/dev/null; cat {file}"
    )
    try:
        grade, wrong = judge_testssl(json.loads(said.stdout))
    except ValueError:
        grade, wrong = "no report", [(said.stdout + said.stderr)[-300:]]
    figure = f"{grade}, {len(wrong)} MEDIUM or worse" + (f": {'; '.join(wrong)}" if wrong else "")
    wrong += [] if grade == "A+" else [f"grade {grade}"]
    command = "testssl --add-ca CA --ip ADDRESS NAME:443"
    return Found(f"testssl.sh {version('testssl.sh')}", command, target.kind, figure, "A+, 0", wrong)
