//! The made-up repositories.

use super::random::Random;

/// A repository and what most of its executions say about it.
#[derive(Debug)]
pub struct Repository {
    pub full_path: &'static str,
    pub language: &'static str,
    pub framework: &'static str,
}

const fn repository(full_path: &'static str, language: &'static str, framework: &'static str) -> Repository {
    Repository { full_path, language, framework }
}

/// Those of the history, the busiest first.
pub const ESTABLISHED: &[Repository] = &[
    repository("RSOLV-dev/nodegoat-vulnerability-demo", "javascript", "express"),
    repository("acme/storefront", "typescript", "nextjs"),
    repository("acme/payments-api", "java", "spring"),
    repository("globex/data-portal", "python", "django"),
    repository("RSOLV-dev/railsgoat", "ruby", "rails"),
    repository("hooli/search-edge", "go", "gin"),
    repository("initech/tps-reports", "php", "laravel"),
    repository("globex/ml-service", "python", "fastapi"),
    repository("umbrella/lab-inventory", "elixir", "phoenix"),
    repository("initech/intranet", "csharp", "aspnet"),
    repository("acme/mobile-gateway", "kotlin", "ktor"),
    repository("hooli/nucleus", "rust", "axum"),
];

/// Those that turn up while the demo runs, one after the other.
pub const NEWCOMERS: &[Repository] = &[
    repository("stark/reactor-console", "typescript", "angular"),
    repository("wayne/signal-router", "go", "echo"),
    repository("tyrell/replicant-registry", "python", "flask"),
    repository("cyberdyne/scheduler", "java", "quarkus"),
    repository("oscorp/lab-notes", "ruby", "sinatra"),
    repository("wonka/recipe-vault", "javascript", "fastify"),
    repository("aperture/test-chambers", "cpp", "none"),
    repository("massive-dynamic/archive", "scala", "play"),
];

/// One of the established repositories; the first are picked most often.
pub fn any(random: &mut Random) -> &'static Repository {
    let skewed = random.unit().powi(2);
    &ESTABLISHED[(skewed * ESTABLISHED.len() as f64) as usize]
}
