//! Three PostgreSQL servers under Patroni, one of them the leader, with the etcd that it keeps its state in.

use std::fs::{self, File};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use serde_json::Value;

use super::failure::{Failure, Result};
use super::http;
use super::installation::Installation;
use super::ports::free_port;
use super::process::{self, PATIENCE, TICK};
use super::scratch::Scratch;

/// A cluster of three, gone when dropped.
pub struct Patroni {
    installation: Installation,
    etcd: Child,
    members: Vec<Member>,
    directory: Scratch,
}

/// One server with its Patroni. The reaper of its directory ends the server.
struct Member {
    child: Child,
    port: u16,
    api: u16,
    directory: Scratch,
}

impl Patroni {
    /// Starts etcd and three members, and waits until two follow the first.
    pub async fn start() -> Result<Self> {
        let installation = Installation::find()?;
        let parent = std::path::Path::new("/tmp");
        let directory = Scratch::new("etcd", parent, installation.owner)?;
        let (clients, peers) = (free_port(), free_port());
        let mut etcd = installation.program("etcd", directory.path());
        let at = format!("http://127.0.0.1:{clients}");
        etcd.args(["--data-dir", "etcd", "--listen-client-urls", &at, "--advertise-client-urls", &at]);
        etcd.arg("--listen-peer-urls").arg(format!("http://127.0.0.1:{peers}"));
        let etcd = start(etcd, &directory, "etcd-server")?;
        // Patroni needs more programs than those that may be linked to from a folder on PATH.
        let server = fs::canonicalize(installation.bin.join("postgres"))?;
        let bin = server.parent().map(|bin| bin.display().to_string()).unwrap_or_default();
        let mut cluster = Self { installation, etcd, members: Vec::new(), directory };
        for i in 0..3 {
            let directory = Scratch::new("patroni", parent, cluster.installation.owner)?;
            let (port, api) = (free_port(), free_port());
            fs::write(
                directory.path().join("patroni.yml"),
                settings(i, port, api, clients, &directory, &bin.to_string()),
            )?;
            let mut patroni = cluster.installation.program("patroni", directory.path());
            patroni.arg("patroni.yml");
            let child = start(patroni, &directory, "patroni python3-etcd")?;
            cluster.members.push(Member { child, port, api, directory });
        }
        cluster.settled(None).await?;
        Ok(cluster)
    }

    /// `host:port,…` of all members.
    pub fn hosts(&self) -> String {
        self.members.iter().map(|member| format!("127.0.0.1:{}", member.port)).collect::<Vec<_>>().join(",")
    }

    /// Of each member the port of its server and that of its Patroni.
    pub fn ports(&self) -> Vec<(u16, u16)> {
        self.members.iter().map(|member| (member.port, member.api)).collect()
    }

    /// Lets another member lead, in order; waits until all is well again.
    pub async fn switch_over(&self) -> Result<()> {
        let before = self.settled(None).await?;
        let member = &self.members[0];
        let mut patronictl = self.installation.program("patronictl", member.directory.path());
        patronictl.args(["-c", "patroni.yml", "switchover", "tests", "--force"]).env("LC_ALL", "C.UTF-8");
        let output = patronictl.output()?;
        if !output.status.success() {
            return Err(Failure::new(format!("patronictl: {}", String::from_utf8_lossy(&output.stderr))));
        }
        self.settled(Some(before)).await.map(|_| ())
    }

    /// Kills the leader's server; waits until another one leads and it follows.
    pub async fn fail_over(&self) -> Result<()> {
        let before = self.settled(None).await?;
        let pid = fs::read_to_string(self.members[before].directory.path().join("data/postmaster.pid"))?;
        let pid = pid.lines().next().and_then(|pid| pid.parse().ok());
        process::signal(pid.ok_or_else(|| Failure::new("no process in postmaster.pid"))?, libc::SIGKILL);
        self.settled(Some(before)).await.map(|_| ())
    }

    /// The leader, once it is not `before`, two members follow, and one of them is synchronous.
    async fn settled(&self, before: Option<usize>) -> Result<usize> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(leader) = self.leader().await.filter(|leader| Some(*leader) != before) {
                return Ok(leader);
            }
            // One that failed to start its server has ended.
            if Instant::now() >= deadline || !process::runs(self.members[0].child.id()) {
                let log = fs::read_to_string(self.members[0].directory.path().join("log")).unwrap_or_default();
                return Err(Failure::new(format!("Patroni does not settle:\n{}", process::tail(&log, 20))));
            }
            tokio::time::sleep(TICK * 10).await;
        }
    }

    async fn leader(&self) -> Option<usize> {
        let answer = http::get(&format!("127.0.0.1:{}", self.members[0].api), "/cluster").await.ok()?;
        let answer: Value = serde_json::from_slice(&answer.body).ok()?;
        let members = answer["members"].as_array()?;
        let with = |role: &str| members.iter().find(|member| member["role"] == role);
        let run = members.iter().filter(|m| m["state"] == "running" || m["state"] == "streaming").count();
        let leader = with("leader").filter(|_| run == 3 && with("sync_standby").is_some())?;
        self.members.iter().position(|member| leader["port"] == member.port)
    }
}

impl Drop for Patroni {
    fn drop(&mut self) {
        // First those that would start their server again.
        for child in self.members.iter_mut().map(|member| &mut member.child).chain([&mut self.etcd]) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn start(mut command: Command, directory: &Scratch, package: &str) -> Result<Child> {
    let log = File::create(directory.path().join("log"))?;
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    let program = command.get_program().to_string_lossy().into_owned();
    process::spawn(command, libc::SIGKILL)
        .map_err(|e| Failure::new(format!("cannot start {program} ({e}); get it with: apt-get install {package}")))
}

/// With one synchronous standby no commit that was acknowledged is lost; a server that was killed is not waited for.
fn settings(i: usize, port: u16, api: u16, etcd: u16, directory: &Scratch, bin: &str) -> String {
    let path = directory.path().display();
    format!(
        "scope: tests
name: member{i}
restapi: {{listen: '127.0.0.1:{api}', connect_address: '127.0.0.1:{api}'}}
etcd3: {{hosts: '127.0.0.1:{etcd}'}}
bootstrap:
  dcs:
    {{ttl: 20, loop_wait: 1, retry_timeout: 3, synchronous_mode: true, master_start_timeout: 0, primary_start_timeout: 0,
      postgresql: {{use_pg_rewind: true, parameters: {{max_connections: 50}}}}}}
  initdb: [{{encoding: UTF8}}, {{locale: C}}, no-sync]
postgresql:
  listen: '127.0.0.1:{port}'
  connect_address: '127.0.0.1:{port}'
  data_dir: '{path}/data'
  bin_dir: '{bin}'
  pgpass: '{path}/pgpass'
  pg_hba: [local all all trust, host all all 127.0.0.1/32 trust, host replication all 127.0.0.1/32 trust]
  authentication: {{superuser: {{username: postgres}}, replication: {{username: postgres}}, rewind: {{username: postgres}}}}
  parameters: {{unix_socket_directories: '{path}', fsync: 'off', dynamic_shared_memory_type: mmap, wal_keep_size: 128MB}}
  basebackup: [{{checkpoint: fast}}, no-sync]
"
    )
}
