"""Starts Alertmanager with the shipped configuration and looks at what arrives at Slack, PagerDuty, SMTP and the webhook.

Only addresses, the folder of the secrets and the waiting times are changed.
"""

import datetime
import http.server
import json
import pathlib
import re
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
received = []  # (receiver, text)
problems = []


class Http(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        received.append((self.path.strip("/"), body, self.headers.get("Authorization", "")))
        self.send_response(202 if "pagerduty" in self.path else 200)
        self.end_headers()
        self.wfile.write(b'{"status": "success"}' if "pagerduty" in self.path else b"ok")

    def log_message(self, *_):
        pass


class Smtp(socketserver.StreamRequestHandler):
    """As much of SMTP as a client needs to hand over a message."""

    def handle(self):
        self.wfile.write(b"220 test\r\n")
        while line := self.rfile.readline().decode().strip():
            if line == "DATA":
                self.wfile.write(b"354 go on\r\n")
                text = b""
                while not text.endswith(b"\r\n.\r\n"):
                    text += self.rfile.readline()
                received.append(("email", text.decode(), ""))
            if line == "QUIT":
                self.wfile.write(b"221 bye\r\n")
                return
            self.wfile.write(b"250 ok\r\n")


def serve(server):
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1]


def expect(condition, what):
    if not condition:
        problems.append(what)


def configuration(http_port, smtp_port, secrets):
    """The shipped file with other addresses and short waits. Every change has to find its place."""
    text = (ROOT / "alerts" / "alertmanager.yml").read_text()
    for pattern, replacement in (
        (r"/etc/alertmanager/secrets", str(secrets)),
        (r"smtp\.example\.com:587", f"127.0.0.1:{smtp_port}\n  smtp_require_tls: false"),
        (r"http://localhost:8060/alerts", f"http://127.0.0.1:{http_port}/webhook"),
        (r"(\n +)(- routing_key_file: .*)", rf"\1\2\1  url: http://127.0.0.1:{http_port}/pagerduty"),
        (r"group_wait: \w+", "group_wait: 1s"),
        (r"group_interval: \w+", "group_interval: 1s"),
    ):
        text, count = re.subn(pattern, replacement, text)
        expect(count, f"alertmanager.yml has no {pattern}")
    return text


def alert(name, severity, component, environment="production", **more):
    return {
        "labels": {"alertname": name, "severity": severity, "component": component,
                   "environment": environment, "job": "rsolv-exporter", **more},
        "annotations": {"summary": f"Summary of {name} in {environment}", "description": f"Number 42 of {name}.",
                        "runbook_url": f"https://runbooks.example.com/{name}.md",
                        "dashboard_url": "https://grafana.example.com/d/rsolv-executions"},
        "startsAt": datetime.datetime.now(datetime.timezone.utc).isoformat(),
    }


def wait_for(condition, seconds=15):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.1)
    return False


def texts(receiver, word=""):
    return [text for name, text, _ in received if name == receiver and word in text]


def main():
    http_port = serve(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Http))
    smtp_port = serve(socketserver.ThreadingTCPServer(("127.0.0.1", 0), Smtp))
    free = socketserver.TCPServer(("127.0.0.1", 0), socketserver.BaseRequestHandler)
    port = free.server_address[1]
    free.server_close()
    api = f"http://127.0.0.1:{port}"

    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work)
        for name, value in (("slack-url", f"http://127.0.0.1:{http_port}/slack"), ("smtp-password", "secret"),
                            ("pagerduty-routing-key", "key-of-pagerduty"), ("webhook-token", "token-of-webhook")):
            (work / name).write_text(value)
        (work / "alertmanager.yml").write_text(configuration(http_port, smtp_port, work))
        with open(work / "log", "w") as log:
            process = subprocess.Popen(
                ["prometheus-alertmanager", f"--config.file={work}/alertmanager.yml", f"--storage.path={work}/data",
                 f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address="], stdout=log, stderr=log)
        try:
            exercise(api)
        finally:
            process.terminate()
            process.wait()
        if problems:
            print((work / "log").read_text()[-2000:])
    print("\n".join(problems))
    return bool(problems)


def post(api, alerts):
    request = urllib.request.Request(f"{api}/api/v2/alerts", json.dumps(alerts).encode(), {"Content-Type": "application/json"})
    urllib.request.urlopen(request).read()


def ready(api):
    try:
        return urllib.request.urlopen(f"{api}/-/ready").status == 200
    except OSError:
        return False


def inhibited(api):
    """(alert, environment) → whether another alert holds it back."""
    alerts = json.load(urllib.request.urlopen(f"{api}/api/v2/alerts"))
    return {(a["labels"]["alertname"], a["labels"]["environment"]): bool(a["status"]["inhibitedBy"]) for a in alerts}


def exercise(api):
    if not wait_for(lambda: ready(api)):
        problems.append("Alertmanager did not start")
        return

    # The cause comes first, as it does in reality: it fires after 5 minutes, what it explains after 10.
    post(api, [alert("RsolvExporterDown", "critical", "exporter", "broken"),
               alert("RsolvExporterDatabaseUnreachable", "critical", "exporter", "cut-off"),
               alert("ValidationSuccessRateLow", "critical", "validation", "poor"),
               alert("MitigationTrustScoreLow", "critical", "mitigation", "poor"),
               alert("ValidationDurationHigh", "critical", "validation", "poor")])
    wait_for(lambda: len(inhibited(api)) == 5)
    everything = [("ValidationSuccessRateLow", "critical", "validation"), ("NoMitigationActivity", "info", "mitigation"),
                  ("MitigationTrustScoreDecreasing", "warning", "mitigation"), ("RsolvExporterDataStale", "warning", "exporter")]
    post(api, [alert(*one, environment) for one in everything for environment in ("broken", "cut-off")])
    post(api, [alert("RsolvExporterDatabaseUnreachable", "critical", "exporter", "broken"),
               alert("ValidationSuccessRateDecreasing", "warning", "validation", "poor"),
               alert("ValidationDurationIncreasing", "warning", "validation", "poor"),
               alert("MitigationTrustScoreDecreasing", "warning", "mitigation", "poor"),
               alert("NoValidationActivity", "info", "validation", "poor"),
               alert("RsolvExporterPollsSlow", "warning", "exporter", "poor"),
               # another environment, with the same alerts: nothing holds them back
               alert("ValidationSuccessRateDecreasing", "warning", "validation", "staging"),
               alert("RsolvExporterDataStale", "warning", "exporter", "staging"),
               alert("ValidationSuccessRateLow", "critical", "validation", "staging"),
               alert("MitigationTrustScoreDecreasing", "warning", "mitigation", "fine")])
    held = {(name, environment) for name, _, _ in everything for environment in ("broken", "cut-off")} | {
        ("RsolvExporterDatabaseUnreachable", "broken"), ("ValidationSuccessRateDecreasing", "poor"),
        ("ValidationDurationIncreasing", "poor"), ("MitigationTrustScoreDecreasing", "poor"),
        ("ValidationSuccessRateDecreasing", "staging")}
    settled = wait_for(lambda: {key for key, value in inhibited(api).items() if value} == held)
    expect(settled, f"held back: {sorted(key for key, value in inhibited(api).items() if value)}, expected {sorted(held)}")

    complete = wait_for(lambda: texts("email") and texts("pagerduty") and texts("slack", "#rsolv-info")
                        and texts("slack", "in fine") and texts("slack", "in poor"))
    expect(complete, "not every receiver got something")
    time.sleep(1.5)  # what must not arrive would have arrived by now

    slack = [json.loads(text) for text in texts("slack")]
    first = next((s for s in slack if "MitigationTrustScoreLow" in str(s)), None)
    if first:
        attachment = first["attachments"][0]
        expect(first["channel"] == "#rsolv-alerts", f"channel {first['channel']}")
        expect(attachment["title"] == "FIRING 1: critical mitigation in poor", f"title {attachment['title']}")
        for part in ("*Summary of MitigationTrustScoreLow in poor*", "Number 42 of MitigationTrustScoreLow.",
                     "<https://runbooks.example.com/MitigationTrustScoreLow.md|Runbook>",
                     "<https://grafana.example.com/d/rsolv-executions|Dashboard>"):
            expect(part in attachment["text"], f"Slack text lacks {part}: {attachment['text']}")
    else:
        problems.append("no Slack message about MitigationTrustScoreLow")

    pages = [json.loads(text) for text in texts("pagerduty")]
    paged = {p["payload"]["summary"] for p in pages}
    expect(all("staging" not in str(p) for p in pages), "staging pages")
    expect(not any(word in str(pages) for word in ("Decreasing", "Activity", "Stale")), "more than critical alerts page")
    expect("Summary of RsolvExporterDown in broken." in str(paged), f"paged: {paged}")
    expect(all(p["routing_key"] == "key-of-pagerduty" and p["payload"]["severity"] == "critical" for p in pages), "PagerDuty event")
    expect("runbooks.example.com/RsolvExporterDown.md" in str(pages), "no runbook on the page")

    expect(all("RsolvExporter" in text for text in texts("email")), "e-mail about something else than the exporter")
    expect("Number 42 of RsolvExporterPollsSlow" in "".join(texts("email")), "e-mail text")
    expect(all("#rsolv-info" not in str(s) or "info" in s["attachments"][0]["title"] for s in slack), "channel for information")
    expect(not any("NoValidationActivity" in text for text in texts("pagerduty") + texts("email")), "information pages")
    webhook = "".join(texts("webhook"))
    expect("NoValidationActivity" in webhook and "RsolvExporterPollsSlow" in webhook, "the webhook gets everything")
    expect(all(auth == "Bearer token-of-webhook" for name, _, auth in received if name == "webhook"), "token of the webhook")

    gone = alert("MitigationTrustScoreDecreasing", "warning", "mitigation", "fine")
    gone["endsAt"] = gone["startsAt"]
    post(api, [gone])
    expect(wait_for(lambda: texts("slack", "RESOLVED: warning mitigation in fine")), "no word when it ends")


if __name__ == "__main__":
    sys.exit(main())
