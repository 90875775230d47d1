#!/usr/bin/env bash
# Makes the manifests whose content lives elsewhere in the repository:
#
#   components/monitoring/prometheus-rule.yaml   from alerts/*.yml with a list of groups
#   components/monitoring/dashboards.yaml        from dashboards/*.json
#   components/queries/definitions/              from queries/
#
# kustomize reads no files from outside the folder it builds, unless a flag says so that `kubectl
# apply -k` does not have; and a rule file has to be wrapped into a PrometheusRule in any case. So the
# files are generated and committed, and `--check` says whether they are up to date.
#
# usage: generate.sh [--check]
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
check=no
case ${1:-} in
  '') ;;
  --check) check=yes ;;
  *) echo "usage: generate.sh [--check]" >&2; exit 2 ;;
esac

out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
die() { echo "generate.sh: $*" >&2; exit 1; }

mkdir -p "$out/components/monitoring" "$out/components/queries/definitions"

# --- PrometheusRule -------------------------------------------------------------------------------

rules=$out/components/monitoring/prometheus-rule.yaml
cat >"$rules" <<'YAML'
# Made by deploy/kubernetes/generate.sh from alerts/; change it there.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: rsolv-exporter
  labels:
    app.kubernetes.io/name: rsolv-exporter
spec:
  groups:
YAML
found=no
for file in "$root"/alerts/*.yml; do
  [[ -e $file ]] || die "there is no alerts/*.yml"
  grep -q '^groups:' "$file" || continue # alertmanager.yml, prometheus.yml
  found=yes
  echo "    # alerts/${file##*/}" >>"$rules"
  # The list below `groups:` moved to the indentation it has here, whatever it was.
  python3 - "$file" >>"$rules" <<'PYTHON' || exit 1
import pathlib, sys

file = pathlib.Path(sys.argv[1])
inside, indent = False, None
for line in file.read_text().splitlines():
    if line.rstrip() == "groups:":
        inside = True
    elif line.startswith("---") or not inside and (not line.strip() or line.startswith("#")):
        continue
    elif not inside or line.strip() and line[0] not in "-# \t":
        sys.exit(f"generate.sh: alerts/{file.name}: expected nothing but groups: at the top level, found: {line}")
    elif not line.strip():
        print()
    else:
        if indent is None and line.lstrip().startswith("-"):
            indent = len(line) - len(line.lstrip(" "))
        if indent is not None:
            print("    " + (line if line.startswith("#") else line[indent:]))
PYTHON
done
[[ $found == yes ]] || die "no file in alerts/ has groups of rules"

# --- dashboards -----------------------------------------------------------------------------------

dashboards=$out/components/monitoring/dashboards.yaml
echo "# Made by deploy/kubernetes/generate.sh from dashboards/; change it there." >"$dashboards"
found=no
for file in "$root"/dashboards/*.json; do
  [[ -e $file ]] || die "there is no dashboards/*.json"
  name=${file##*/}
  # One ConfigMap each: together they could outgrow what an object may hold.
  [[ $found == no ]] || echo "---" >>"$dashboards"
  found=yes
  cat >>"$dashboards" <<YAML
apiVersion: v1
kind: ConfigMap
metadata:
  name: dashboard-${name%.json}
  labels:
    app.kubernetes.io/name: rsolv-exporter
    # What Grafana's sidecar looks for, as the kube-prometheus-stack chart sets it up.
    grafana_dashboard: "1"
data:
  $name: |
YAML
  sed 's/^/    /' "$file" >>"$dashboards"
done

# --- definitions ----------------------------------------------------------------------------------

definitions=$out/components/queries/definitions
cat >"$definitions/kustomization.yaml" <<'YAML'
# Made by deploy/kubernetes/generate.sh from queries/.
apiVersion: kustomize.config.k8s.io/v1alpha1
kind: Component

configMapGenerator:
  - name: rsolv-exporter-queries
    files:
YAML
found=no
for file in "$root"/queries/*.sql "$root"/queries/*.toml; do
  [[ -e $file ]] || continue
  found=yes
  cp "$file" "$definitions/"
  echo "      - ${file##*/}" >>"$definitions/kustomization.yaml"
done
[[ $found == yes ]] || die "there is no queries/*.sql or *.toml"

# --- write or compare -----------------------------------------------------------------------------

if [[ $check == yes ]]; then
  for path in components/monitoring/prometheus-rule.yaml components/monitoring/dashboards.yaml \
    components/queries/definitions; do
    diff -ru "$here/$path" "$out/$path" || die "$path is not up to date: run deploy/kubernetes/generate.sh"
  done
  echo "up to date"
else
  rm -rf "$here/components/queries/definitions"
  cp -r "$out/components/." "$here/components/"
fi
