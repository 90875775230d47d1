//! The status page in a browser: whatever fails is on the first screen, on a desk and on a phone.

use serde::Deserialize;
use tokio::net::TcpListener;

use super::protection::Files;
use crate::support::browser;
use crate::support::cluster::Cluster;
use crate::support::database::Database;
use crate::support::execution::{Mitigation, Validation};
use crate::support::exporter::Exporter;
use crate::support::http::Response;

/// Screens: a small notebook's window and a phone.
const SCREENS: [(u32, u32); 2] = [(1280, 800), (390, 844)];

/// A document that shows the page on a screen, and measures it into its title.
fn frame((width, height): (u32, u32)) -> String {
    format!(
        r#"<!doctype html><style>body {{ margin: 0 }} iframe {{ border: 0; display: block }}</style>
<iframe src="/page" width="{width}" height="{height}"></iframe>
<script>
document.querySelector("iframe").addEventListener("load", (event) => {{
  const page = event.target.contentDocument;
  const problems = [...page.querySelectorAll(".problem")].map((problem) => {{
    const box = problem.getBoundingClientRect();
    const words = [...problem.querySelectorAll("p, a, b, span, code")].map((part) => part.getBoundingClientRect());
    return {{
      words: problem.textContent,
      bottom: box.bottom,
      // Of the parts that it has, the outermost edges.
      left: Math.min(box.left, ...words.map((part) => part.left)),
      right: Math.max(box.right, ...words.map((part) => part.right)),
    }};
  }});
  const pill = page.querySelector(".pill").getBoundingClientRect().bottom;
  document.title = JSON.stringify({{ problems, pill, width: page.documentElement.scrollWidth }});
}});
</script>"#
    )
}

/// What the browser measured, in pixels.
#[derive(Debug, Deserialize)]
struct Layout {
    problems: Vec<Problem>,
    /// Where the word for the whole ends.
    pill: f64,
    /// How wide the page is.
    width: f64,
}

#[derive(Debug, Deserialize)]
struct Problem {
    words: String,
    bottom: f64,
    left: f64,
    right: f64,
}

/// Shows a page on a screen. `RSOLV_SCREENSHOTS` names a folder for a picture of it.
async fn layout(page: &str, name: &str, screen: (u32, u32)) -> Layout {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let page = page.to_owned();
    let served = tokio::spawn(async move {
        loop {
            browser::answer(&listener, |path| if path == "/" { frame(screen) } else { page.clone() }).await;
        }
    });
    let profile = tempfile::tempdir().unwrap();
    if let Ok(folder) = std::env::var("RSOLV_SCREENSHOTS") {
        let (picture, size) = (format!("{folder}/{name}-{}.png", screen.0), format!("{},{}", screen.0, screen.1));
        let flags = [format!("--screenshot={picture}"), format!("--window-size={size}")];
        let flags = flags.each_ref().map(String::as_str);
        assert!(browser::command(&profile, &flags, &url).status().await.unwrap().success());
    }
    let output = browser::command(&profile, &["--dump-dom"], &url).output().await;
    let output = output.expect("chromium can be run; tests/setup.sh browser installs it");
    served.abort();
    let shown = String::from_utf8_lossy(&output.stdout);
    let title = shown.split("<title>").nth(1).and_then(|rest| rest.split("</title>").next());
    let title = title.unwrap_or_else(|| panic!("nothing was measured: {shown}")).replace("&amp;", "&");
    serde_json::from_str(&title.replace("&lt;", "<").replace("&gt;", ">")).expect(&title)
}

/// The page once it says all of this.
async fn that_says(exporter: &Exporter, expected: &[&str]) -> String {
    let says = |page: &Response| expected.iter().all(|words| page.text().contains(words));
    exporter.wait_for_page("/", &format!("{expected:?}"), says).await.text()
}

#[tokio::test]
async fn every_failure_is_on_the_first_screen() {
    let cluster = Cluster::start(&[]).unwrap();
    let mut db = Database::on(&cluster).await;
    let repo = db.repository("RSOLV-dev/nodegoat-vulnerability-demo").await;
    db.insert(Validation::completed(repo, r#"{"language": "go", "tests_generated": 3}"#)).await;
    db.insert(Mitigation::completed(repo, r#"{"trust_score": 80}"#)).await;
    let files = Files::new();
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    for details in ["true", "false"] {
        std::fs::create_dir_all(folder.path()).unwrap();
        let config = files.write("web.yml", "{}");
        let state = format!("--state.file={}", state.display());
        let flags = ["--poll.interval=200ms", "--web.show-details", details, "--web.config.file", &config, &state];
        let exporter = Exporter::start(&db.url(), &flags).await;
        exporter.wait_for("a state", |m| m.value("rsolv_exporter_state_up", &[]) == Some(1.0)).await;
        // One after the other, all that can fail at once.
        std::fs::remove_dir_all(folder.path()).unwrap();
        db.insert(Validation::completed(repo, "{}")).await;
        let (unsaved, refused) = ("The state cannot be saved", "The web configuration has changed and is not in force");
        that_says(&exporter, &[unsaved]).await;
        files.write("web.yml", "http_server_config: {colour: red}\nbasic_auth_users: {ops: none}\n");
        that_says(&exporter, &[unsaved, refused]).await;
        db.batch("ALTER TABLE validation_executions RENAME TO gone; ALTER TABLE mitigation_executions RENAME TO lost")
            .await;
        let missing = "cannot be read</b> (missing)";
        let sources = that_says(&exporter, &[unsaved, refused, missing]).await;
        cluster.stop_fast().unwrap();
        let down = that_says(&exporter, &[unsaved, refused, "The database cannot be read"]).await;
        cluster.start_again().unwrap();
        db.reconnect().await;
        let back = "ALTER TABLE gone RENAME TO validation_executions; ALTER TABLE lost RENAME TO mitigation_executions";
        db.batch(back).await;

        for (name, page, failures) in [("sources", sources, 4), ("database", down, 5)] {
            for screen in SCREENS {
                let found = layout(&page, &format!("{name}-{details}"), screen).await;
                let (width, height) = (f64::from(screen.0), f64::from(screen.1));
                assert_eq!(found.problems.len(), failures, "{name}: {found:#?}");
                assert!(found.pill < height && found.width <= width, "{name}: {found:#?}");
                for problem in &found.problems {
                    let fits = problem.bottom <= height && problem.left >= 0.0 && problem.right <= width;
                    assert!(fits && problem.words.len() > 20, "{name}, {screen:?}: {found:#?}");
                }
            }
        }
    }
}
