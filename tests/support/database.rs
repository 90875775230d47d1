//! One database per test, with the platform's tables.

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tokio_postgres::{Client, NoTls};

use super::cluster::Cluster;
use super::failure::{Failure, Result};
use super::process::{PATIENCE, TICK};

/// The platform's tables as the application creates them.
pub const SCHEMA: &str = include_str!("schema.sql");

/// The privilege to read every table.
pub const READ_ALL: &str = "SELECT ON ALL TABLES IN SCHEMA public";

/// The columns that the shipped queries read.
const READ_SHIPPED: [&str; 3] = [
    "SELECT (id, full_path) ON repositories",
    "SELECT (id, repository_id, status, vulnerabilities_found, data, started_at, completed_at, error_message, \
     inserted_at, updated_at) ON validation_executions",
    "SELECT (id, repository_id, status, pr_url, pr_number, data, started_at, completed_at, error_message, \
     inserted_at, updated_at) ON mitigation_executions",
];

/// The database that every test's own is a copy of.
const TEMPLATE: &str = "platform";

/// A database of our own on a cluster, dropped with this value.
pub struct Database<'c> {
    cluster: &'c Cluster,
    pub name: String,
    /// A connection for the test itself, as superuser.
    client: Client,
}

impl Database<'static> {
    /// A new database with the platform's tables on the shared cluster.
    pub async fn new() -> Self {
        Self::on(Cluster::shared()).await
    }
}

impl<'c> Database<'c> {
    /// A new database with the platform's tables on `cluster`.
    ///
    /// # Panics
    /// When the server does not create it.
    pub async fn on(cluster: &'c Cluster) -> Self {
        cluster
            .template
            .get_or_try_init(|| create_template(cluster))
            .await
            .expect("the template with the platform's tables");
        Self::create(cluster, &format!("TEMPLATE {TEMPLATE}")).await.expect("a new database")
    }

    /// A new database on `cluster` without any table; `options` are those of
    /// CREATE DATABASE.
    pub async fn create(cluster: &'c Cluster, options: &str) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(1);
        let name = format!("test_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let admin = connect(&cluster.socket_url("postgres")).await?;
        admin.batch_execute(&format!("CREATE DATABASE {name} {options}")).await?;
        let client = connect(&cluster.socket_url(&name)).await?;
        Ok(Self { cluster, name, client })
    }

    /// The server this database is on.
    pub fn cluster(&self) -> &'c Cluster {
        self.cluster
    }

    /// Its address over TCP, for the exporter.
    pub fn url(&self) -> String {
        self.cluster.url(&self.name)
    }

    /// Its address on another port, where a proxy listens.
    pub fn url_through(&self, port: u16) -> String {
        format!("postgresql://postgres@127.0.0.1:{port}/{}", self.name)
    }

    /// Its address for another role.
    pub fn url_as(&self, role: &str) -> String {
        self.url().replacen("postgres@", &format!("{}@", role.replace(' ', "%20")), 1)
    }

    /// A new role that may log in, and has these privileges (what stands between GRANT and TO). The role is the
    /// cluster's: its name ends with the database's.
    pub async fn role(&self, privileges: &[&str]) -> String {
        let role = format!("reader_{}", self.name);
        self.batch(&format!("CREATE ROLE {role} LOGIN")).await;
        for privilege in privileges {
            self.batch(&format!("GRANT {privilege} TO {role}")).await;
        }
        role
    }

    /// Its address for a new role with exactly the privileges that the shipped queries need.
    pub async fn reader(&self) -> String {
        self.url_as(&self.role(&READ_SHIPPED).await)
    }

    /// One more connection to it, as superuser.
    pub async fn client(&self) -> Client {
        connect(&self.cluster.socket_url(&self.name)).await.expect("a connection")
    }

    /// Opens the test's own connection anew, after the server was restarted.
    pub async fn reconnect(&mut self) {
        self.client = self.client().await;
    }

    /// Runs statements.
    ///
    /// # Panics
    /// When the server refuses one; so do the functions below.
    #[track_caller]
    pub fn batch<'a>(&'a self, sql: &'a str) -> impl Future<Output = ()> + 'a {
        let caller = std::panic::Location::caller();
        async move {
            if let Err(error) = self.client.batch_execute(sql).await {
                panic!("{caller}: {}\n{sql}", Failure::from(error));
            }
        }
    }

    /// The only value that `sql` returns, as text.
    pub async fn value(&self, sql: &str) -> String {
        let value = format!("SELECT ({sql})::text");
        let row = self.client.query_one(&value, &[]).await.map_err(Failure::from);
        row.expect(sql).get::<_, Option<String>>(0).unwrap_or_else(|| "NULL".into())
    }

    /// Waits until `condition`, an SQL expression, is true.
    ///
    /// # Panics
    /// When it is not in time.
    pub async fn wait_until(&self, condition: &str) {
        let deadline = Instant::now() + PATIENCE;
        while self.value(condition).await != "true" {
            assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain for {condition}");
            tokio::time::sleep(TICK).await;
        }
    }

    /// The id of the repository `full_path`, added if need be.
    pub async fn repository(&self, full_path: &str) -> i64 {
        add_repository(&self.client, full_path).await.expect("a repository")
    }

    /// Inserts an execution (of either kind), returns its id.
    pub async fn insert(&self, execution: impl Into<String>) -> i64 {
        let sql = execution.into();
        let row = self.client.query_one(&sql, &[]).await.map_err(Failure::from);
        row.expect(&sql).get(0)
    }
}

impl Drop for Database<'_> {
    fn drop(&mut self) {
        let url = self.cluster.socket_url("postgres");
        let sql = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        // Only tidiness, so that a long run does not fill the disk: a server
        // that is down or hung takes the database with it when it goes.
        let tidy = async move {
            let drop = async { connect(&url).await?.batch_execute(&sql).await.map_err(Failure::from) };
            let _ = tokio::time::timeout(Duration::from_secs(5), drop).await;
        };
        // The test's own runtime cannot be blocked on from here.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        if let Ok(runtime) = runtime {
            let _ = thread::spawn(move || runtime.block_on(tidy)).join();
        }
    }
}

/// Connects to `url` and drives the connection in a task.
pub async fn connect(url: &str) -> Result<Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    // How a connection ends shows in the client's next call.
    tokio::spawn(connection);
    Ok(client)
}

/// Adds the repository `full_path` unless it is there; returns its id.
pub async fn add_repository(client: &Client, full_path: &str) -> Result<i64> {
    let (namespace, name) = full_path.split_once('/').unwrap_or(("", full_path));
    // DO NOTHING would return no id.
    let sql = "INSERT INTO repositories (forge_type, namespace, name, full_path,
                 first_seen_at, last_activity_at, inserted_at, updated_at)
               SELECT 'github', $1, $2, $3, t, t, t, t FROM timezone('UTC', now()) AS t
               ON CONFLICT (forge_type, namespace, name)
               DO UPDATE SET last_activity_at = excluded.last_activity_at
               RETURNING id";
    Ok(client.query_one(sql, &[&namespace, &name, &full_path]).await?.get(0))
}

async fn create_template(cluster: &Cluster) -> Result<()> {
    let admin = connect(&cluster.socket_url("postgres")).await?;
    admin.batch_execute(&format!("CREATE DATABASE {TEMPLATE}")).await?;
    let (client, connection) = tokio_postgres::connect(&cluster.socket_url(TEMPLATE), NoTls).await?;
    let connection = tokio::spawn(connection);
    client.batch_execute(SCHEMA).await?;
    drop(client);
    // A database that someone is connected to cannot be copied.
    let _ = connection.await;
    let gone = format!("SELECT 1 FROM pg_stat_activity WHERE datname = '{TEMPLATE}'");
    while !admin.query(&gone, &[]).await?.is_empty() {
        tokio::time::sleep(TICK).await;
    }
    Ok(())
}
