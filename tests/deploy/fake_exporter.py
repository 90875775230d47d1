"""A stand-in for the exporter that can be told to be wrong.

The smoke test must fail for every way in which an exporter can be wrong; the real one is not. This one
recounts the smoke test's rows with psql at every request, and then lies as told:

  honest    the truth
  double    counts every execution twice
  recount   counts the executions again at every poll
  stuck     never sees anything new
  forgets   shows the truth once, then falls back
  unready   /-/ready is 503
  down      rsolv_exporter_up is 0
  hung      its polls have stopped
  rejects   the truth, but one value is rejected meanwhile

usage: fake_exporter.py MODE DBNAME   (PGHOST and PGUSER from the environment; prints its port)
"""

import http.server
import subprocess
import sys

MODE, DATABASE = sys.argv[1:]

SQL = """
WITH v AS (SELECT e.* FROM validation_executions e JOIN repositories r ON r.id = repository_id
           WHERE full_path = 'rsolv-exporter/smoke-test'),
     m AS (SELECT e.* FROM mitigation_executions e JOIN repositories r ON r.id = repository_id
           WHERE full_path = 'rsolv-exporter/smoke-test')
SELECT (SELECT count(*) FROM v),
       (SELECT coalesce(sum(extract(epoch FROM completed_at - started_at) * 1000), 0)::bigint FROM v),
       (SELECT coalesce(sum((data->>'tests_generated')::int), 0) FROM v),
       (SELECT coalesce(sum((data->>'tests_passed')::int), 0) FROM v),
       (SELECT coalesce(sum((data->>'tests_failed')::int), 0) FROM v),
       (SELECT coalesce(sum(vulnerabilities_found), 0) FROM v),
       (SELECT count(*) FROM m),
       (SELECT coalesce(sum((data->>'trust_score')::int), 0) FROM m),
       (SELECT coalesce(sum(extract(epoch FROM completed_at - started_at) * 1000), 0)::bigint FROM m),
       (SELECT count(*) FROM m WHERE pr_url <> '' OR pr_number IS NOT NULL)
"""

polls = 0
first = None


def counts():
    global first
    out = subprocess.run(
        ["psql", "-X", "-A", "-t", "-F", " ", "-d", DATABASE, "-c", SQL],
        check=True, capture_output=True, text=True,
    ).stdout.split()
    now = [int(n) for n in out]
    if first is None:
        first = now
    rose = [n - f for n, f in zip(now, first)]
    factor = {"double": 2, "stuck": 0}.get(MODE, 1)
    if MODE == "recount" and any(rose):
        counts.seen = getattr(counts, "seen", 0) + 1
        factor = 1 + counts.seen // 3
    if MODE == "forgets" and any(rose):
        counts.seen = getattr(counts, "seen", 0) + 1
        factor = 0 if counts.seen > 2 else 1
    return [f + factor * r for f, r in zip(first, rose)]


def page():
    global polls
    if MODE != "hung":
        polls += 1
    v, v_ms, generated, passed, failed, found, m, trust, m_ms, prs = counts()
    at = 'framework="express",language="javascript",repo="rsolv-exporter/smoke-test"'
    lines = [
        # A neighbour whose labels and name only begin alike.
        f'rsolv_validation_executions_total{{framework="express",language="javascript",'
        f'repo="rsolv-exporter/smoke-test-2",status="completed"}} 77',
        f'rsolv_validation_executions_total{{{at},status="completed"}} {v}',
        f'rsolv_validation_executions_total{{{at},status="failed"}} 0',
        f'rsolv_validation_executions_total{{{at},status="timeout"}} 0',
        f'rsolv_validation_duration_milliseconds_count{{{at}}} {v}',
        f'rsolv_validation_duration_milliseconds_sum{{{at}}} {v_ms}.0',
        f'rsolv_validation_test_generated_total{{{at}}} {generated}',
        f'rsolv_validation_tests_reported_total{{{at}}} {v}',
        f'rsolv_validation_test_passed_total{{{at}}} {passed}',
        f'rsolv_validation_test_failed_total{{{at}}} {failed}',
        f'rsolv_validation_vulnerabilities_found_total{{{at}}} {found}',
        f'rsolv_mitigation_executions_total{{{at},status="completed"}} {m}',
        f'rsolv_mitigation_executions_total{{{at},status="failed"}} 0',
        f'rsolv_mitigation_executions_total{{{at},status="timeout"}} 0',
        f'rsolv_mitigation_trust_score_value_sum{{{at}}} {trust}',
        f'rsolv_mitigation_trust_score_value_count{{{at}}} {m}',
        f'rsolv_mitigation_duration_milliseconds_count{{{at}}} {m}',
        f'rsolv_mitigation_duration_milliseconds_sum{{{at}}} {m_ms:e}',
        f'rsolv_mitigation_pr_created_total{{{at}}} {prs}',
        f'rsolv_exporter_up {0 if MODE == "down" else 1}',
        f'rsolv_exporter_polls_total {polls}',
        f'rsolv_exporter_rejected_values_total{{column="trust_score",source="mitigation"}} '
        f'{polls if MODE == "rejects" else 3}',
    ]
    return "\n".join(lines) + "\n"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        status, body = 200, "ok\n"
        if self.path == "/metrics":
            body = page()
        elif self.path == "/-/ready" and MODE == "unready":
            status, body = 503, "the last good poll is 400 s old\n"
        elif self.path not in ("/-/healthy", "/-/ready"):
            status, body = 404, "not found\n"
        payload = body.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *_):
        pass


server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
