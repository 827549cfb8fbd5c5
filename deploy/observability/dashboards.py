"""Writes generated/: Grafana's dashboards, and the rules for Kubernetes and for AWS.

Run it after a change of rules.yaml or alertmanager.yaml. `tests/unit/test_dashboards.py` compares the files with what
this program makes.
"""

import json
import re
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "generated"
RULES = Path(__file__).parent / "rules.yaml"
ROUTES = Path(__file__).parent / "alertmanager.yaml"
RULE = """\
# yamllint disable rule:line-length
# The rules of rules.yaml for Prometheus's operator; dashboards.py writes this file.
# The labels of metadata must be those that your Prometheus selects (ruleSelector).
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: scrip
  labels: {app.kubernetes.io/name: scrip}
spec:
  groups:
"""
STACK = """\
# yamllint disable rule:line-length
# rules.yaml and alertmanager.yaml for AWS; dashboards.py writes this file. docs/deploy.md says how to deploy it.
AWSTemplateFormatVersion: "2010-09-09"
Description: >-
  The alerts of Scrip: Amazon Managed Service for Prometheus with the rules of deploy/observability, and the topics that
  get pages and tickets. See docs/deploy.md.

Resources:
  Pages:
    Type: AWS::SNS::Topic
  Tickets:
    Type: AWS::SNS::Topic
  TopicPolicy:
    Type: AWS::SNS::TopicPolicy
    Properties:
      Topics: [!Ref Pages, !Ref Tickets]
      PolicyDocument:
        Version: "2012-10-17"
        Statement:
          - Effect: Allow
            Principal: {Service: aps.amazonaws.com}
            Action: [sns:Publish, sns:GetTopicAttributes]
            Resource: "*"
            Condition:
              ArnEquals: {"aws:SourceArn": !GetAtt Workspace.Arn}
              StringEquals: {"aws:SourceAccount": !Ref AWS::AccountId}
          - Effect: Allow
            Principal: {Service: cloudwatch.amazonaws.com}
            Action: sns:Publish
            Resource: "*"
            Condition: {StringEquals: {"aws:SourceAccount": !Ref AWS::AccountId}}
  Workspace:
    Type: AWS::APS::Workspace
    DeletionPolicy: Delete
    UpdateReplacePolicy: Delete
    Properties:
      Alias: !Ref AWS::StackName
      AlertManagerDefinition: !Sub |
        alertmanager_config: |
ROUTES
  Rules:
    Type: AWS::APS::RuleGroupsNamespace
    Properties:
      Workspace: !GetAtt Workspace.Arn
      Name: scrip
      Data: |
RULES
Outputs:
  Pages:
    Value: !Ref Pages
    Export: {Name: !Sub "${AWS::StackName}-Pages"}
  Tickets:
    Value: !Ref Tickets
    Export: {Name: !Sub "${AWS::StackName}-Tickets"}
  Workspace:
    Value: !GetAtt Workspace.Arn
    Export: {Name: !Sub "${AWS::StackName}-Workspace"}
  Endpoint:
    Value: !GetAtt Workspace.PrometheusEndpoint
    Export: {Name: !Sub "${AWS::StackName}-Endpoint"}
"""
RECEIVER = """\
  - name: NAME
    sns_configs:
      - topic_arn: ${TOPIC}
        sigv4:
          region: ${AWS::Region}
        subject: "NAME, {{ .Status }}: {{ .GroupLabels.alertname }}"
        message: |
          {{ range .Alerts }}{{ .Status }}: {{ .Annotations.summary }}
          {{ .Annotations.description }}
          {{ .Annotations.runbook_url }}
          {{ end }}
"""
RUNBOOKS = "https://scrip.example/docs/operations.md"
"""Where the panels' links lead, as those of rules.yaml do."""
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
NAMESPACE = 'namespace=~"$namespace"'
PAGE, SIZES = 24, {"stat": (4, 4), "timeseries": (8, 8)}
"""Width of a page; width and height of a panel."""
QUANTILES = (("p99", 0.99), ("p50", 0.5))

Panel = dict[str, Any]


def panel(title: str, unit: str, queries: dict[str, str], *alerts: str, stack: bool = False, kind: str = "") -> Panel:
    """A panel of queries by legend. NS in a query selects the namespace. The links lead to the alerts' runbooks."""
    drawn = {"fillOpacity": 40, "stacking": {"mode": "normal"}} if stack else {"fillOpacity": 0}
    return {
        "title": title,
        "type": kind or "timeseries",
        "datasource": SOURCE,
        "fieldConfig": {"defaults": {"unit": unit, "min": 0, "custom": drawn if not kind else {}}, "overrides": []},
        "links": [{"title": name, "url": f"{RUNBOOKS}#{name.lower()}", "targetBlank": True} for name in alerts],
        "targets": [
            {"refId": ref, "datasource": SOURCE, "expr": query.replace("NS", NAMESPACE), "legendFormat": legend}
            for ref, (legend, query) in zip("ABCDEF", queries.items(), strict=False)
        ],
    }


def stat(title: str, unit: str, query: str, *alerts: str) -> Panel:
    """A single number."""
    return panel(title, unit, {title: query}, *alerts, kind="stat")


def largest(metric: str, *labels: str) -> str:
    """A gauge of the partitions: each API shows the same."""
    return f"max by ({', '.join(('partition', *labels))}) ({metric}{{NS}})"


def rate(metric: str, *labels: str) -> str:
    return f"sum by ({', '.join(labels)}) (rate({metric}{{NS}}[$__rate_interval]))"


def quantile(share: float, metric: str, *labels: str) -> str:
    return f"histogram_quantile({share}, {rate(f'{metric}_bucket', 'le', *labels)})"


SALE = [
    stat("Alerts that fire", "none", 'count(ALERTS{alertname=~"Scrip.+", alertstate="firing", NS}) or vector(0)'),
    stat("Requests a second", "reqps", "sum(scrip:hot_requests:rate1m{NS})", "ScripProcessMissing"),
    stat("5xx", "percentunit", 'max(scrip:slo_ratio:5m{slo="availability", NS})', "ScripErrors"),
    stat("Slower than 0.2 s", "percentunit", 'max(scrip:slo_ratio:5m{slo="latency", NS})', "ScripLatency"),
    stat("Oldest unrecorded", "s", "max(scrip:outbox_lag_seconds{NS})", "ScripUnrecordedEventsOld"),
    stat("Closed partitions", "none", "count(max by (partition) (scrip_partition_closed{NS})) or vector(0)",
         "ScripPartitionClosed"),
    panel("Outcomes of the hot path", "reqps", {"{{status}} {{outcome}}":
          "sum by (status, outcome) (scrip:hot_requests:rate1m{NS})"}, "ScripRefusals", "ScripErrors", stack=True),
    panel("5xx of all requests", "reqps", {"{{route}} {{outcome}}":
          'sum by (route, outcome) (rate(scrip_http_requests_total{status="5xx", NS}[$__rate_interval]))'},
          "ScripErrors"),
    panel("Done, by route", "reqps", {"{{route}}":
          'sum by (route) (rate(scrip_http_requests_total{status="2xx", NS}[$__rate_interval]))'}),
    *(panel(name, "s", {"{{operation}}": quantile(share, "scrip_operation_duration_seconds", "operation")},
            "ScripLatency") for name, share in QUANTILES),
    panel("Bad events of an hour", "percentunit", {"{{slo}}": "max by (slo) (scrip:slo_ratio:1h{NS})"},
          "ScripErrors", "ScripLatency", "ScripRecordingSlow"),
    panel("Requests by workspace", "reqps", {"{{workspace}}":
          f"topk(10, {rate('scrip_workspace_requests_total', 'workspace')})"}, "ScripTenantFlood", stack=True),
    panel("Requests by scope", "reqps", {"{{scope}}": rate("scrip_http_requests_total", "scope")}),
    panel("Limits, and codes that don't exist", "reqps", {"{{outcome}}": "sum by (outcome) (scrip:hot_requests:"
          'rate1m{outcome=~"rate_limited|lock_quota|key_quota|too_many_misses|coupon_not_found", NS})'},
          "ScripRateLimited", "ScripGuessing"),
    panel("Cores in use", "none", {"{{job}} {{instance}}":
          'rate(process_cpu_seconds_total{job=~"scrip-.+", NS}[$__rate_interval])'}, "ScripSaturation"),
    panel("Requests in flight", "none", {f"{what}, {{{{instance}}}}": f"scrip_{what}_requests_in_flight{{NS}}"
          for what in ("http", "redis")}, "ScripSaturation"),
    panel("Connections of clients", "none", {
        "{{instance}}": "scrip_http_connections{NS}",
        "refused a second": "sum(rate(scrip_http_connections_refused_total{NS}[$__rate_interval]))",
    }, "ScripSaturation"),
    panel("Free codes of books with low stock", "none", {"{{workspace}} {{book}}":
          "min by (workspace, book) (scrip_book_free_codes{NS})"}, "ScripLowStock"),
    panel("Bound of storage in use", "percentunit", {"{{workspace}}":
          "max by (workspace) (scrip_workspace_storage_ratio{NS})"}, "ScripStorage"),
]  # fmt: skip

STORES = [
    panel("Partitions closed", "none", {"{{partition}} {{reason}}": largest("scrip_partition_closed", "reason")},
          "ScripPartitionClosed", "ScripPostgresOlder"),
    panel("Partitions by gate", "none", {"{{state}}":
          f"sum by (state) ({largest('scrip_gate_state', 'state')})"}, "ScripPartitionClosed", stack=True),
    panel("No worker", "none", {"{{partition}}": largest("scrip_worker_missing")}, "ScripWorkerMissing"),
    panel("Epoch", "none", {"{{partition}}": largest("scrip_partition_epoch")}, "ScripPartitionClosed"),
    panel("Unrecorded events", "none", {"{{partition}}": largest("scrip:outbox_pending_events")},
          "ScripUnrecordedEventsMany"),
    panel("Oldest unrecorded event", "s", {"{{partition}}": largest("scrip:outbox_lag_seconds")},
          "ScripUnrecordedEventsOld", "ScripRecordingSlow"),
    panel("Recorded", "ops", {"{{partition}}": rate("scrip_recorded_events_total", "partition")}),
    *(panel(f"Recording: {unit} of a transaction", unit[0] if unit == "seconds" else "none",
            {name: quantile(share, f"scrip_recording_{metric}") for name, share in QUANTILES}, "ScripRecordingSlow")
      for unit, metric in (("seconds", "duration_seconds"), ("events", "batch_events"))),
    panel("Recording repeated", "ops", {"{{error}}": rate("scrip_recording_retries_total", "error")}, "ScripDisk"),
    panel("Quarantine", "none", {
        "{{partition}} {{cause}}": largest("scrip_quarantined_events", "cause"),
        "blocked codes {{partition}}": largest("scrip_blocked_codes"),
    }, "ScripQuarantine", "ScripBlockedCodes"),
    panel("Drift", "none", {"{{partition}} {{drift}}": largest("scrip_drift", "drift")}, "ScripDrift"),
    panel("Since the last comparison", "s", {"{{partition}}":
          f"time() - ({largest('scrip_reconciled_timestamp_seconds')} > 0)"}, "ScripNoComparison"),
    panel("Failing tasks", "none", {"{{partition}} {{task}}": largest("scrip_task_failing", "task")},
          "ScripTaskFailing"),
    panel("Things that fail", "none", {
        "{{partition}} {{task}}": largest("scrip_set_aside", "task"),
        "an API's {{task}}": rate("scrip_left_out_total", "task"),
    }, "ScripLeftOut", "ScripSetAside"),
    panel("Redis and Postgres answer", "none", {
        "Redis of {{partition}}, {{instance}}": "scrip_redis_up{NS}",
        "Postgres, {{instance}}": "scrip_postgres_up{NS}",
    }, "ScripRedisDown", "ScripPostgresDown"),
    panel("Redis's memory", "bytes", {f"{of}, {{{{server}}}}": f"max by (server) (scrip_redis_memory_{of}_bytes{{NS}})"
          for of in ("used", "limit")}, "ScripRedisMemory", "ScripRedisUnlimited"),
    panel("Replicas and sentinels", "none", {
        "replicas of {{server}}": "max by (server) (scrip_redis_replicas{NS})",
        "sentinels {{state}}": "max by (state) (scrip_sentinels{NS})",
    }, "ScripRedisReplica", "ScripSentinels"),
    panel("Redis can't write its file", "none", {"{{server}}":
          "max by (server) (scrip_redis_persistence_failing{NS})"}, "ScripRedisPersistence"),
    panel("Clocks", "s", {"{{server}}": "max by (server) (abs(scrip_clock_offset_seconds{NS}))"}, "ScripClock"),
    panel("Connections that Postgres has", "none", {
        "open": "max(scrip_postgres_connections{NS})",
        "limit": "max(scrip_postgres_connections_limit{NS})",
    }, "ScripConnections"),
    panel("Postgres can't archive", "none", {"failing": "max(scrip_archive_failing{NS})"}, "ScripArchive"),
    panel("Connections to Postgres", "none", {
        "{{state}} {{instance}}": "scrip_postgres_pool_connections{NS}",
        "waiting {{instance}}": "scrip_postgres_pool_waiting{NS}",
    }, "ScripSaturation"),
    panel("Standbys", "none", {
        "missing": "max(scrip_standbys_missing{NS})",
        "events held, {{partition}}": largest("scrip_outbox_held_events"),
    }, "ScripStandby"),
    panel("Certificates end in", "s", {"{{server}}":
          "min by (server) (scrip_certificate_expires_timestamp_seconds{NS}) - time()"}, "ScripCertificate"),
    panel("Free disk", "percentunit", {
        "{{instance}} {{mountpoint}}": "node_filesystem_avail_bytes / node_filesystem_size_bytes",
        "{{persistentvolumeclaim}}": "kubelet_volume_stats_available_bytes / kubelet_volume_stats_capacity_bytes",
    }, "ScripDisk"),
    panel("Openings", "none", {"{{way}}": "sum by (way) (increase(scrip_openings_total{NS}[5m]))"},
          "ScripPartitionClosed"),
    panel("Webhooks: oldest delivery", "s", {"{{partition}}": largest("scrip_webhook_oldest_pending_seconds")},
          "ScripWebhooks"),
    panel("Webhooks: attempts", "ops", {"{{outcome}}": rate("scrip_webhook_attempts_total", "outcome")}),
    panel("Jobs", "none", {"{{kind}} {{state}}": "max by (kind, state) (scrip_jobs{NS})"}, "ScripTaskFailing"),
    panel("Expired locks", "ops", {"{{partition}}": rate("scrip_expired_locks_total", "partition")}),
    panel("Versions", "none", {"{{process}} {{version}}": "count by (process, version) (scrip_build_info{NS})"},
          stack=True),
]  # fmt: skip


def dashboard(name: str, text: str, panels: list[Panel]) -> dict[str, Any]:
    """A page of panels, from left to right and down."""
    placed: list[Panel] = []
    x = y = 0
    for one in panels:
        width, height = SIZES[one["type"]]
        placed.append(one | {"id": len(placed) + 1, "gridPos": {"x": x, "y": y, "w": width, "h": height}})
        x = (x + width) % PAGE
        y += 0 if x else height
    namespace = {
        "name": "namespace", "type": "query", "datasource": SOURCE, "refresh": 2, "multi": True, "includeAll": True,
        "query": "label_values(scrip_build_info, namespace)", "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }  # fmt: skip
    return {
        "uid": f"scrip-{name}", "title": f"Scrip: {name}", "description": text, "tags": ["scrip"], "schemaVersion": 39,
        "refresh": "10s", "time": {"from": "now-1h", "to": "now"}, "panels": placed,
        "templating": {"list": [{"name": "datasource", "type": "datasource", "query": "prometheus"}, namespace]},
        "links": [{"title": "Scrip", "type": "dashboards", "tags": ["scrip"]},
                  {"title": "Runbooks", "type": "link", "url": RUNBOOKS, "targetBlank": True}],
    }  # fmt: skip


def indent(text: str, spaces: int) -> str:
    return "".join(" " * spaces + line if line.strip() else line for line in text.splitlines(keepends=True))


def make_stack() -> str:
    """The rules and routes as a stack for AWS, without comments: a template without a bucket has 51,200 bytes at most.

    There a rule is evaluated each 30 s at most, so a page waits longer for that of its cause. Alerts go to SNS alone.
    """
    rules, routes = (re.sub(r"^ *#.*\n", "", path.read_text("utf-8"), flags=re.MULTILINE) for path in (RULES, ROUTES))
    for name, topic in (("page", "Pages"), ("ticket", "Tickets")):
        receiver = RECEIVER.replace("NAME", name).replace("TOPIC", topic)
        routes = routes.replace(f"  - name: {name}\n", receiver)
    rules = rules.replace("interval: 15s\n", "interval: 30s\n")
    routes = routes.replace("group_wait: 20s\n", "group_wait: 40s\n")
    return STACK.replace("ROUTES\n", indent(routes, 10)).replace("RULES\n", f"{indent(rules, 8)}\n")


def make_files() -> dict[str, str]:
    """The text of each file by its path in the folder."""
    made = {
        "sale": dashboard("sale", "What shoppers get, and who they are.", SALE),
        "stores": dashboard("stores", "Partitions, recording, Redis and Postgres.", STORES),
    }
    files = {f"dashboards/{name}.json": f"{json.dumps(one, indent=1)}\n" for name, one in made.items()}
    rules = RULES.read_text("utf-8").partition("groups:\n")[2]
    return files | {"prometheus-rule.yaml": f"{RULE}{indent(rules, 2)}", "aws.yaml": make_stack()}


if __name__ == "__main__":
    for path, text in make_files().items():
        (FOLDER / path).write_text(text, "utf-8")
