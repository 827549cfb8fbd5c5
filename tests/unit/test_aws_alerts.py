"""The stack of alerts for AWS has the rules and routes of deploy/observability, within the quotas of AWS."""

import re
import subprocess
from pathlib import Path
from typing import Any

import yaml

from tests.documents.pages import anchors
from tests.harness.cloudformation import TEMPLATES, read_template, resources
from tests.harness.plugin import require
from tests.harness.trees import ROOT
from tests.unit.test_alerts import FOLDER, promtool, read

ALERTS = resources("alerts")
RULES: str = ALERTS["Rules"]["Data"]
DEFINITION: str = ALERTS["Workspace"]["AlertManagerDefinition"]
GROUPS: list[Any] = yaml.safe_load(RULES)["groups"]
ROUTES: dict[str, Any] = yaml.safe_load(yaml.safe_load(DEFINITION)["alertmanager_config"])
SECONDS = {"15s": 15, "30s": 30, "1m": 60}


def prometheus() -> dict[str, Any]:
    """The configuration of the Prometheus that scrapes the tasks."""
    (task,) = resources("processes")["PrometheusTask"]["ContainerDefinitions"]
    (variable,) = task["Environment"]
    text, names = variable["Value"]
    assert f'printf %s "${variable["Name"]}"' in task["Command"][0]
    for name, value in {**dict.fromkeys(names, "https://aps.example/"), "AWS::StackName": "shop"}.items():
        text = text.replace(f"${{{name}}}", value)
    return yaml.safe_load(text)


def test_the_rules_are_the_same() -> None:
    """Each group has the rules of rules.yaml, and each is evaluated as seldom as AWS allows, or as it says."""
    groups = read(FOLDER / "rules.yaml")["groups"]
    for group in groups:
        group["interval"] = "30s" if SECONDS[group["interval"]] < 30 else group["interval"]
    assert groups == GROUPS


def test_the_routes_are_the_same() -> None:
    """One cause gives one page there, too: routes and inhibitions are those of alertmanager.yaml, but a page waits
    longer than two evaluations are apart. Each receiver has its topic, and sends what AWS accepts."""
    receivers = ROUTES.pop("receivers")
    theirs = read(FOLDER / "alertmanager.yaml")
    assert [one["name"] for one in theirs.pop("receivers")] == [one["name"] for one in receivers]
    (page,) = theirs["route"]["routes"]
    assert int(page["group_wait"].removesuffix("s")) > 15
    page["group_wait"] = "40s"
    assert max(SECONDS[group["interval"]] for group in GROUPS if "objectives" in group["name"]) < 40
    assert theirs == ROUTES
    topics = {}
    for receiver in receivers:
        (sns,) = receiver["sns_configs"]
        assert set(sns) == {"topic_arn", "sigv4", "subject", "message"}
        assert sns["sigv4"] == {"region": "${AWS::Region}"}
        topics[receiver["name"]] = sns["topic_arn"]
    assert topics == {"page": "${Pages}", "ticket": "${Tickets}"}
    assert ALERTS["TopicPolicy"]["Topics"] == ["Pages", "Tickets"]


def test_amtool_accepts_the_routes(tmp_path: Path) -> None:
    """Alertmanager would start with them."""
    text = re.sub(r"\$\{AWS::Region\}", "eu-west-1", yaml.safe_load(DEFINITION)["alertmanager_config"])
    path = tmp_path / "alertmanager.yaml"
    path.write_text(re.sub(r"\$\{(\w+)\}", r"arn:aws:sns:eu-west-1:123456789012:\1", text))
    done = subprocess.run([require("amtool"), "check-config", path], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_nothing_fires_that_should_not(tmp_path: Path) -> None:
    """Where nothing may fire, nothing does, with evaluations as seldom as they are there.

    Which of two alerts fires first may differ; the routes' group_wait is for that. The other tests of rules.yaml have a
    minute between evaluations, whatever the groups say.
    """
    text = read(FOLDER / "rules.quiet.test.yaml")
    quiet = [one for one in text["tests"] if not any("exp_samples" in look for look in one["promql_expr_test"])]
    assert quiet
    (tmp_path / "rules.yaml").write_text(RULES)
    (tmp_path / "test.yaml").write_text(yaml.safe_dump({**text, "tests": quiet, "evaluation_interval": "30s"}))
    promtool("test", "rules", str(tmp_path / "test.yaml"))


def test_the_quotas_of_aws() -> None:
    """A template goes up without a bucket, and what AWS limits is within its quotas: those of the service's user guide,
    and 20 rules a group, an older one that some accounts may have."""
    for name, path in TEMPLATES.items():
        assert path.stat().st_size <= 51_200, name
    assert max(len(RULES.encode()), len(DEFINITION.encode())) <= 1_000_000
    assert all(len(group["rules"]) <= 20 for group in GROUPS)
    assert sum(len(group["rules"]) for group in GROUPS) <= 2_000
    assert all(SECONDS[group["interval"]] >= 30 for group in GROUPS)
    assert len(ROUTES["inhibit_rules"]) <= 100


def test_prometheus_scrapes_the_tasks(tmp_path: Path) -> None:
    """Prometheus accepts its configuration: each API and worker has the job that the rules name, other tasks none.

    Debian's promtool does not know `aws_sd_configs`: the test sets another discovery in their place."""
    config = prometheus()
    (job,) = config["scrape_configs"]
    (found,) = job.pop("aws_sd_configs")
    assert (found["role"], found["clusters"]) == ("ecs", ["${Cluster.Arn}"])
    keep, name = job["relabel_configs"]
    assert [keep["source_labels"], name["source_labels"]] == [["__meta_ecs_task_definition"]] * 2
    jobs = {}
    for process in ("Api", "Worker", "Migrate", "Prometheus"):
        task = resources("processes")[f"{process}Task"]
        definition = f"arn:aws:ecs:eu-west-1:123456789012:task-definition/{task['Family']}:7"
        definition = definition.replace("${AWS::StackName}", "shop")
        if re.fullmatch(keep["regex"], definition):
            jobs[process] = re.sub(f"^{name['regex']}$", name["replacement"].replace("$", "\\"), definition)
            ports = [one["ContainerPort"] for one in task["ContainerDefinitions"][0]["PortMappings"]]
            assert found["port"] in ports
    assert jobs == {"Api": "scrip-api", "Worker": "scrip-worker"}
    assert config["global"] == {"scrape_interval": read(FOLDER / "prometheus.yaml")["global"]["scrape_interval"]}
    (remote,) = config["remote_write"]
    assert remote == {"url": "https://aps.example/api/v1/remote_write", "sigv4": {"region": "${AWS::Region}"}}
    job["static_configs"] = [{"targets": ["127.0.0.1:9100"]}]
    path = tmp_path / "prometheus.yaml"
    path.write_text(yaml.safe_dump(config).replace("${AWS::Region}", "eu-west-1"))
    promtool("check", "config", "--agent", str(path))


def test_one_prometheus_at_a_time() -> None:
    """A new one starts after the old one has ended: of two, each sample would come twice."""
    service = resources("processes")["PrometheusService"]
    assert service["DesiredCount"] == 1
    assert service["DeploymentConfiguration"]["MinimumHealthyPercent"] == 0
    assert service["DeploymentConfiguration"]["MaximumPercent"] == 100


def test_the_other_alarms() -> None:
    """CloudWatch alarms only of what Prometheus does not see. Each alarm names a runbook and a topic, and none reads a
    log."""
    alarms: dict[str, Any] = {}
    for name in ("processes", "servers"):
        kinds = {one["Type"] for one in read_template(name)["Resources"].values()}
        assert "AWS::Logs::MetricFilter" not in kinds
        alarms |= {key: one for key, one in resources(name).items() if "AlarmActions" in one}
    for alarm in alarms.values():
        (named,) = re.findall(r"docs/operations.md, (\S+)\.$", alarm["AlarmDescription"])
        assert named.lower() in anchors(ROOT / "docs" / "operations.md")
        ((action,),) = (one.values() for one in alarm["AlarmActions"])
        assert action in ("${Alerts}-Pages", "${Alerts}-Tickets")
    assert {one["Namespace"] for one in alarms.values()} == {
        *("AWS/CertificateManager", "AWS/ApplicationELB", "ECS/ContainerInsights", "AWS/MemoryDB", "AWS/RDS")
    }


def test_each_import_is_an_export() -> None:
    """What a template imports from another one, that one exports."""
    exports = {
        f"${{{name.capitalize()}}}{output['Export']['Name'].removeprefix('${AWS::StackName}')}"
        for name in TEMPLATES
        for output in read_template(name)["Outputs"].values()
        if "Export" in output
    }
    imports = {
        one for path in TEMPLATES.values() for one in re.findall(r'"Fn::Sub": "(\$\{\w+\}-\w+)"', path.read_text())
    }
    assert "${Alerts}-Endpoint" in imports
    assert imports == exports
