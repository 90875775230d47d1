"""The Kubernetes manifests: they build, fit the schemas of several versions, and keep their promises."""

import functools
import shutil

import kubernetes_validate
import pytest
import yaml

from conftest import DEPLOY, ENVIRONMENT, ROOT, TOOLS, must, run

KUBERNETES = DEPLOY / "kubernetes"
STANDALONE, SIDECAR = ["staging", "production"], ["staging-sidecar", "production-sidecar"]
OVERLAYS = STANDALONE + SIDECAR
VERSIONS = ["1.27.0", "1.29.0", "1.31.0", "1.33.0", "1.35.0", "1.37.0"]

# The keys the operator's resources may have here: {} ends a path, "*" is any key, [..] a list.
TEXT = None
ALLOWED = {
    "PodMonitor": {
        "selector": {"matchLabels": {"*": TEXT}},
        "scrapeClassicHistograms": TEXT,
        "podMetricsEndpoints": [{
            "port": TEXT, "path": TEXT, "interval": TEXT, "scrapeTimeout": TEXT,
            "relabelings": [{"targetLabel": TEXT, "replacement": TEXT}],
        }],
    },
    "PrometheusRule": {
        "groups": [{
            "name": TEXT, "interval": TEXT, "limit": TEXT, "labels": {"*": TEXT},
            "rules": [{
                "alert": TEXT, "record": TEXT, "expr": TEXT, "for": TEXT, "keep_firing_for": TEXT,
                "labels": {"*": TEXT}, "annotations": {"*": TEXT},
            }],
        }],
    },
}


@functools.cache
def text_of(folder):
    return must(TOOLS / "kubectl", "kustomize", folder)


def build(overlay):
    return list(yaml.safe_load_all(text_of(KUBERNETES / "overlays" / overlay)))


def only(objects, kind, name=None):
    found = [o for o in objects if o["kind"] == kind and name in (None, o["metadata"]["name"])]
    assert len(found) == 1, f"{len(found)} of {kind} {name or ''}"
    return found[0]


def pod_of(objects):
    owners = [o for o in objects if o["kind"] in ("StatefulSet", "Deployment")]
    assert len(owners) == 1
    return owners[0]["spec"]["template"]


def exporter_of(objects):
    found = [c for c in pod_of(objects)["spec"]["containers"] if c["name"] == "rsolv-exporter"]
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_fits_the_api(overlay, version):
    for manifest in build(overlay):
        if manifest["kind"] in ALLOWED:
            continue
        kubernetes_validate.validate(manifest, version, strict=True)


def stray_keys(value, allowed, path):
    if isinstance(allowed, dict):
        assert isinstance(value, dict), path
        for key, inner in value.items():
            if key not in allowed and "*" not in allowed:
                yield f"{path}.{key}"
            else:
                yield from stray_keys(inner, allowed.get(key, allowed.get("*")), f"{path}.{key}")
    elif isinstance(allowed, list):
        assert isinstance(value, list), path
        for index, inner in enumerate(value):
            yield from stray_keys(inner, allowed[0], f"{path}[{index}]")
    else:
        assert not isinstance(value, (dict, list)), f"{path} is no plain value"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_custom_resources_have_known_keys_only(overlay):
    seen = set()
    for manifest in build(overlay):
        if "coreos.com" not in manifest["apiVersion"]:
            continue
        seen.add(manifest["kind"])
        assert manifest["apiVersion"] == "monitoring.coreos.com/v1"
        assert manifest.keys() == {"apiVersion", "kind", "metadata", "spec"}
        assert list(stray_keys(manifest["spec"], ALLOWED[manifest["kind"]], manifest["kind"])) == []
    assert seen == set(ALLOWED)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_environment_and_job_are_set_at_the_scrape(overlay):
    endpoint, = only(build(overlay), "PodMonitor")["spec"]["podMetricsEndpoints"]
    labels = {r["targetLabel"]: r["replacement"] for r in endpoint["relabelings"]}
    assert labels == {"job": "rsolv-exporter", "environment": overlay.removesuffix("-sidecar")}
    assert len(endpoint["relabelings"]) == 2


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_classic_histograms_stay_beside_native_ones(overlay):
    assert only(build(overlay), "PodMonitor")["spec"]["scrapeClassicHistograms"] is True


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_pod_monitor_finds_the_pod(overlay):
    objects = build(overlay)
    spec = only(objects, "PodMonitor")["spec"]
    labels = pod_of(objects)["metadata"]["labels"]
    assert spec["selector"]["matchLabels"].items() <= labels.items()
    port = spec["podMetricsEndpoints"][0]["port"]
    assert port in [p["name"] for p in exporter_of(objects)["ports"]]
    assert len(port) <= 15
    monitor, owner = only(objects, "PodMonitor"), next(o for o in objects if o["kind"] in ("StatefulSet", "Deployment"))
    assert monitor["metadata"]["namespace"] == owner["metadata"]["namespace"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_container_is_restricted(overlay):
    """The Pod Security Standard "restricted", and a read-only root file system on top."""
    objects = build(overlay)
    context = pod_of(objects)["spec"].get("securityContext", {}) | exporter_of(objects)["securityContext"]
    assert context["runAsNonRoot"] is True and context["runAsUser"] == 65532
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    own = exporter_of(objects)["securityContext"]
    assert own["allowPrivilegeEscalation"] is False and own["privileged"] is False
    assert own["capabilities"] == {"drop": ["ALL"]}
    assert own["readOnlyRootFilesystem"] is True
    for volume in pod_of(objects)["spec"].get("volumes", []):
        assert volume.keys() - {"name"} <= {"secret", "configMap", "emptyDir"}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_resources_are_set(overlay):
    resources = exporter_of(build(overlay))["resources"]
    assert resources["requests"].keys() == {"cpu", "memory"}
    assert resources["limits"].keys() == {"memory"}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_settings_exist_and_point_at_mounts(overlay):
    objects = build(overlay)
    container = exporter_of(objects)
    reference, = container["envFrom"]
    settings = only(objects, "ConfigMap", reference["configMapRef"]["name"])["data"]
    assert settings.keys() <= ENVIRONMENT.keys()
    mounts = {m["mountPath"]: m for m in container["volumeMounts"]}
    state = settings["RSOLV_EXPORTER_STATE__FILE"].rsplit("/", 1)[0]
    assert not mounts[state].get("readOnly")
    assert mounts[settings["RSOLV_EXPORTER_DATABASE__URL_FILE"].rsplit("/", 1)[0]]["readOnly"]
    volumes = {v["name"] for v in pod_of(objects)["spec"]["volumes"]}
    claims = next(o for o in objects if o["kind"] in ("StatefulSet", "Deployment"))["spec"].get("volumeClaimTemplates", [])
    assert {m["name"] for m in mounts.values()} <= volumes | {c["metadata"]["name"] for c in claims}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_no_secret_is_shipped(overlay):
    objects = build(overlay)
    assert not [o for o in objects if o["kind"] == "Secret"]
    example = yaml.safe_load((KUBERNETES / "base/secret.example.yaml").read_text())
    kubernetes_validate.validate(example, VERSIONS[-1], strict=True)
    secret = next(v["secret"] for v in pod_of(objects)["spec"]["volumes"] if "secret" in v)
    assert secret["secretName"] == example["metadata"]["name"]
    assert example["stringData"].keys() == {"url"}


@pytest.mark.parametrize("overlay", SIDECAR)
def test_sidecar_cannot_take_the_platform_out_of_service(overlay):
    objects = build(overlay)
    pod = pod_of(objects)["spec"]
    container = exporter_of(objects)
    assert "readinessProbe" not in container and "startupProbe" not in container
    assert container["livenessProbe"]["httpGet"]["path"] == "/-/healthy"
    assert "initContainers" not in pod
    assert pod["containers"][-1] is container and len(pod["containers"]) == 2
    state = next(v for v in pod["volumes"] if v["name"] == "rsolv-exporter-state")
    assert state["emptyDir"] == {}
    assert "ephemeral-storage" not in container["resources"]["limits"]


@pytest.mark.parametrize("overlay", SIDECAR)
def test_sidecar_changes_nothing_of_the_platform(overlay):
    """Taking away what was added leaves what was there."""
    before, = yaml.safe_load_all((KUBERNETES / "example-platform/deployment.yaml").read_text())
    after = only(build(overlay), "Deployment")
    del after["metadata"]["namespace"], after["metadata"]["labels"]["environment"]
    template = after["spec"]["template"]
    del template["metadata"]["labels"]["rsolv-exporter/metrics"]
    template["spec"]["containers"].pop()
    names = [v["name"] for v in template["spec"].pop("volumes")]
    assert all(name.startswith("rsolv-exporter-") for name in names)
    assert after == before


@pytest.mark.parametrize("overlay", STANDALONE)
def test_standalone_is_one_pod_with_a_volume(overlay):
    objects = build(overlay)
    owner = only(objects, "StatefulSet")["spec"]
    assert owner["replicas"] == 1
    claim, = owner["volumeClaimTemplates"]
    assert claim["metadata"]["name"] == "state"
    assert owner["serviceName"] == only(objects, "Service")["metadata"]["name"]
    # Variables of a Service with an address would look like settings.
    assert only(objects, "Service")["spec"]["clusterIP"] == "None"
    pod = owner["template"]["spec"]
    assert pod["enableServiceLinks"] is False and pod["automountServiceAccountToken"] is False
    assert exporter_of(objects)["readinessProbe"]["httpGet"]["path"] == "/-/ready"


@pytest.mark.parametrize("overlay", STANDALONE)
def test_network_policy_lets_prometheus_in_and_dns_and_the_database_out(overlay):
    objects = build(overlay)
    policy = only(objects, "NetworkPolicy")["spec"]
    assert sorted(policy["policyTypes"]) == ["Egress", "Ingress"]
    assert policy["podSelector"]["matchLabels"].items() <= pod_of(objects)["metadata"]["labels"].items()
    inward, = policy["ingress"]
    source, = inward["from"]
    assert source["podSelector"]["matchLabels"] == {"app.kubernetes.io/name": "prometheus"}
    assert "namespaceSelector" in source
    assert inward["ports"] == [{"protocol": "TCP", "port": "rsolv-metrics"}]
    dns, database = policy["egress"]
    assert {(p["protocol"], p["port"]) for p in dns["ports"]} == {("UDP", 53), ("TCP", 53)}
    assert database["ports"] == [{"protocol": "TCP", "port": 5432}]
    for rule in policy["egress"]:
        for peer in rule["to"]:
            if "ipBlock" in peer:
                assert peer["ipBlock"]["cidr"].endswith("/32")
            else:
                # An empty selector means everything.
                assert peer["podSelector"]["matchLabels"]


def test_monitoring_is_what_alerts_and_dashboards_say():
    """Compared as data: the generator works on text."""
    done = run(KUBERNETES / "generate.sh", "--check")
    assert done.returncode == 0, done.output
    objects = build("production")
    groups = []
    for file in sorted((ROOT / "alerts").glob("*.yml")):
        content = yaml.safe_load(file.read_text())
        if "groups" in content:
            groups += content["groups"]
    assert groups and only(objects, "PrometheusRule")["spec"]["groups"] == groups
    dashboards = {
        name: text for o in objects if o["metadata"].get("labels", {}).get("grafana_dashboard")
        for name, text in o["data"].items()
    }
    assert dashboards == {p.name: p.read_text() for p in (ROOT / "dashboards").glob("*.json")}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_objects_are_small_enough_to_apply(overlay):
    """`kubectl apply` without --server-side keeps a copy in an annotation, of 256 KiB at most."""
    for manifest in build(overlay):
        assert len(yaml.safe_dump(manifest)) < 250_000, manifest["metadata"]["name"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_own_definitions(overlay, tmp_path):
    """With the component `queries` the definitions of queries/ are mounted and named."""
    shutil.copytree(KUBERNETES, tmp_path / "kubernetes")
    file = tmp_path / "kubernetes/overlays" / overlay / "kustomization.yaml"
    content = yaml.safe_load(file.read_text())
    content["components"].insert(1, "../../components/queries")
    file.write_text(yaml.safe_dump(content))
    objects = list(yaml.safe_load_all(must(TOOLS / "kubectl", "kustomize", file.parent)))
    container = exporter_of(objects)
    settings = only(objects, "ConfigMap", container["envFrom"][0]["configMapRef"]["name"])["data"]
    folder = settings["RSOLV_EXPORTER_QUERIES__DIR"]
    mount = next(m for m in container["volumeMounts"] if m["mountPath"] == folder)
    volume = next(v for v in pod_of(objects)["spec"]["volumes"] if v["name"] == mount["name"])
    definitions = only(objects, "ConfigMap", volume["configMap"]["name"])["data"]
    shipped = [p for p in (ROOT / "queries").iterdir() if p.suffix in (".sql", ".toml")]
    assert definitions == {p.name: p.read_text() for p in shipped}
    for manifest in objects:
        if manifest["kind"] not in ALLOWED:
            kubernetes_validate.validate(manifest, VERSIONS[-1], strict=True)
    # The platform's container stays first.
    if overlay in SIDECAR:
        assert pod_of(objects)["spec"]["containers"][-1] == container
