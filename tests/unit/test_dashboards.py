"""The dashboards of deploy/observability are made from their source, and what they and the rules ask for exists."""

import importlib
import json
import re
import runpy
from pathlib import Path
from typing import Any

import yaml
from prometheus_client import REGISTRY

from tests.harness.deployed import COMPOSE, compose_env, container, manifests
from tests.unit.test_alerts import ALERTS, FOLDER, RULES, promtool, read

GENERATED = FOLDER / "generated"
FILES = sorted(GENERATED.glob("dashboards/*.json"))
PAGES: list[Any] = [json.loads(path.read_text("utf-8")) for path in FILES]
PANELS = [panel for page in PAGES for panel in page["panels"]]
QUERIES = [target["expr"].replace("$__rate_interval", "1m") for panel in PANELS for target in panel["targets"]]


def test_the_files_are_made_from_their_source() -> None:
    """`python deploy/observability/dashboards.py` changes nothing."""
    made = runpy.run_path(str(FOLDER / "dashboards.py"))["make_files"]()
    assert {name for name, text in made.items() if (GENERATED / name).read_text("utf-8") != text} == set()
    assert set(made) == {"aws.yaml", "prometheus-rule.yaml", *(f"dashboards/{path.name}" for path in FILES)}


def test_promtool_accepts_the_queries(tmp_path: Path) -> None:
    """Each query of a panel is PromQL."""
    rules = [{"record": f"panel:{number}", "expr": text} for number, text in enumerate(QUERIES)]
    path = tmp_path / "panels.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    promtool("check", "rules", str(path))


def exported() -> set[str]:
    """The names of the series that an API and a worker may export, from their registry."""
    for process in ("serving.app", "serving.server", "serving.wiring", "serving.worker"):
        importlib.import_module(f"service.{process}")
    return {*REGISTRY._names_to_collectors}


def test_the_metrics_exist() -> None:
    """Each metric in a rule or a panel is exported by a process, recorded by a rule, or one of these of others."""
    known = exported() | {rule["record"] for rule in RULES if "record" in rule}
    known |= {"process_cpu_seconds_total"}  # of prometheus_client, on Linux
    known |= {f"node_filesystem_{name}_bytes" for name in ("avail", "size")}
    known |= {f"kubelet_volume_stats_{name}_bytes" for name in ("available", "capacity")}
    named = {
        name
        for text in (*(rule["expr"] for rule in RULES), *QUERIES)
        for name in re.findall(r"\b(?:scrip|process|node|kubelet)[_:][\w:]+", re.sub(r'"[^"]*"', "", text))
    }
    assert "scrip_outbox_lag_seconds" in named
    assert named - known == set()


def test_the_operator_finds_the_pods() -> None:
    """Each PodMonitor selects the pods of one Deployment by a port of theirs, as the job that the rules name."""
    objects = list(yaml.safe_load_all((FOLDER / "kubernetes.yaml").read_text("utf-8")))
    for monitor in objects:
        name, spec = monitor["metadata"]["name"], monitor["spec"]
        deployment = manifests()["Deployment", name]
        assert spec["selector"] == deployment["spec"]["selector"]
        (endpoint,) = spec["podMetricsEndpoints"]
        ports = {port["name"]: str(port["containerPort"]) for port in container(deployment)["ports"]}
        assert {"name": "SCRIP_METRICS_PORT", "value": ports[endpoint["port"]]} in container(deployment)["env"]
        assert endpoint["relabelings"] == [{"targetLabel": "job", "replacement": name}]
    assert [one["kind"] for one in objects] == ["PodMonitor", "PodMonitor"]
    assert read(GENERATED / "prometheus-rule.yaml")["spec"] == read(FOLDER / "rules.yaml")


def test_compose_scrapes_its_processes() -> None:
    """Prometheus accepts its file, which has a job for API and worker at the port where each serves its metrics."""
    promtool("check", "config", "prometheus.yaml")
    scraped = {}
    for job in read(FOLDER / "prometheus.yaml")["scrape_configs"]:
        (targets,) = job["dns_sd_configs"]
        (service,) = targets["names"]
        scraped[job["job_name"]] = service, targets["port"]
    ports = {f"scrip-{name}": (name, int(compose_env(name)["SCRIP_METRICS_PORT"])) for name in ("api", "worker")}
    assert scraped == ports


def test_grafana_finds_the_dashboards() -> None:
    """Grafana's container has the folder that its provider of dashboards names, and Prometheus as its source."""
    folders = [text.split(":")[:2] for text in COMPOSE["services"]["grafana"]["volumes"]]
    (provider,) = read(FOLDER / "grafana" / "dashboards" / "scrip.yaml")["providers"]
    assert ["./deploy/observability/generated/dashboards", provider["options"]["path"]] in folders
    (source,) = read(FOLDER / "grafana" / "datasources" / "prometheus.yaml")["datasources"]
    assert (source["type"], source["url"]) == ("prometheus", "http://prometheus:9090")


def test_the_links_lead_to_runbooks() -> None:
    """Each link of a panel names an alert's runbook as its rule does, and each alert is linked from a panel."""
    urls = {rule["alert"]: rule["annotations"]["runbook_url"] for rule in ALERTS}
    links = {link["title"]: link["url"] for panel in PANELS for link in panel["links"]}
    assert links == urls
