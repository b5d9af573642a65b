"""The alert rules: valid, each seen to fire and to stay quiet, each with a paragraph in the runbook."""

import subprocess
from pathlib import Path

import pytest

from tests.conftest import debian_program
from tests.operations import rules


def _promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    program = debian_program("promtool")
    assert program is not None
    return subprocess.run(
        [program, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=120
    )


@pytest.mark.debian("promtool")
def test_the_rule_file_is_valid() -> None:
    done = _promtool("check", "rules", rules.ALERTS)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(rules.alerts())} rules found" in done.stdout


@pytest.mark.debian("promtool")
@pytest.mark.parametrize("name", ["alerts_test.yaml", "alerts_weeks_test.yaml"])
def test_the_alerts_fire_and_stay_quiet_as_written(name: str) -> None:
    done = _promtool("test", "rules", Path(__file__).parent / name)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.debian("promtool")
def test_a_case_that_expects_another_label_fails(tmp_path: Path) -> None:
    """The check above can fail: promtool compares labels and annotations exactly."""
    wrong = (Path(__file__).parent / "alerts_test.yaml").read_text()
    wrong = wrong.replace("../../helm/skiagraph/files/alerts.yaml", str(rules.ALERTS))
    wrong = wrong.replace(
        "{severity: warning, destination: pacs}", "{severity: warning, destination: archive}"
    )
    (tmp_path / "wrong_test.yaml").write_text(wrong)
    done = _promtool("test", "rules", tmp_path / "wrong_test.yaml")
    assert done.returncode == 1
    assert "SkiagraphPeerDown" in done.stdout + done.stderr


def test_each_alert_has_a_case_that_fires_and_one_that_does_not() -> None:
    fires, quiet = set(), set()
    for _path, case in rules.promtool_cases():
        (fires if case["exp_alerts"] else quiet).add(case["alertname"])
    names = {rule["alert"] for rule in rules.alerts()}
    assert fires == names
    assert quiet == names


@pytest.mark.parametrize("rule", rules.alerts(), ids=lambda rule: str(rule["alert"]))
def test_each_alert_says_how_bad_it_is_what_it_is_and_where_to_read_on(
    rule: dict[str, dict[str, str]],
) -> None:
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert rule["annotations"]["summary"]
    assert rule["annotations"]["runbook"] == f"docs/operations.md#{str(rule['alert']).lower()}"


def test_the_runbook_has_a_paragraph_for_each_alert_and_for_nothing_else() -> None:
    text = rules.RUNBOOK.read_text()
    assert {name for name in rules.runbook_headings(text) if name.startswith("Skiagraph")} == {
        rule["alert"] for rule in rules.alerts()
    }
