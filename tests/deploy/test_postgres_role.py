"""deploy/postgres on a real server: exactly these columns, nothing else, again and again, and away."""

import pytest

from conftest import DEPLOY, must, run

READABLE = {
    "repositories": {"id", "full_path"},
    "validation_executions": {
        "id", "repository_id", "status", "vulnerabilities_found", "data", "started_at", "completed_at",
        "error_message", "inserted_at", "updated_at",
    },
    "mitigation_executions": {
        "id", "repository_id", "status", "pr_url", "pr_number", "data", "started_at", "completed_at",
        "error_message", "inserted_at", "updated_at",
    },
}
PRIVILEGES = """
SELECT c.relname || '.' || a.attname || ' ' || p.privilege
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid,
     unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'REFERENCES']) p (privilege)
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'v') AND a.attnum > 0
  AND has_column_privilege('rsolv_exporter', c.oid, a.attnum, p.privilege)
UNION ALL
SELECT c.relname || ' ' || p.privilege
FROM pg_class c, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) p (privilege)
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'v')
  AND has_table_privilege('rsolv_exporter', c.oid, p.privilege)
UNION ALL
SELECT c.relname || ' ' || p.privilege
FROM pg_class c, unnest(ARRAY['SELECT', 'USAGE', 'UPDATE']) p (privilege)
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'S'
  AND has_sequence_privilege('rsolv_exporter', c.oid, p.privilege)
"""
EXACTLY = {f"{table}.{column} SELECT" for table, columns in READABLE.items() for column in columns} | {
    "validation_executions_id_seq SELECT", "mitigation_executions_id_seq SELECT",
}


# The role's default is only a default: what it may not do must not depend on it.
WRITABLE = {"PGOPTIONS": "-c default_transaction_read_only=off"}


def script(postgres, database, name, *variables, user="postgres"):
    options = [part for v in variables for part in ("-v", v)]
    return run("psql", "-X", *options, "-f", DEPLOY / "postgres" / name, env=postgres.env(database, user))


@pytest.fixture
def role(postgres, database):
    done = script(postgres, database, "role.sql")
    assert done.returncode == 0, done.output
    yield database
    postgres.query(database, "DROP OWNED BY rsolv_exporter" if exists(postgres) else "SELECT 1")
    script(postgres, database, "remove.sql")
    assert not exists(postgres)


def exists(postgres, role="rsolv_exporter"):
    return postgres.query("postgres", f"SELECT count(*) FROM pg_roles WHERE rolname = '{role}'") == "1"


def privileges(postgres, database):
    return set(postgres.query(database, PRIVILEGES).splitlines())


def refused(postgres, database, sql, code, **settings):
    done = run("psql", "-XAt", "-v", "ON_ERROR_STOP=1", "-v", "VERBOSITY=sqlstate", "-c", sql,
               env=postgres.env(database, "rsolv_exporter", **settings))
    assert done.returncode != 0, f"{sql} was allowed"
    assert code in done.stderr, done.stderr


def test_it_may_read_exactly_what_is_needed(postgres, role):
    assert privileges(postgres, role) == EXACTLY


def test_reading_works_and_nothing_else_does(postgres, role):
    ask = lambda sql: postgres.query(role, sql, user="rsolv_exporter")
    for table, columns in READABLE.items():
        ask(f"SELECT {', '.join(sorted(columns))} FROM {table}")
        refused(postgres, role, f"SELECT * FROM {table}", "42501")
    for sequence in ("validation_executions_id_seq", "mitigation_executions_id_seq"):
        ask(f"SELECT last_value, is_called FROM {sequence}")
        refused(postgres, role, f"SELECT nextval('{sequence}')", "42501", **WRITABLE)
    # What tells one server from another.
    assert ask("SELECT system_identifier FROM pg_control_system()").isdigit()

    refused(postgres, role, "DELETE FROM repositories", "25006")
    for statement in (
        "DELETE FROM repositories", "UPDATE validation_executions SET data = '{}'",
        "INSERT INTO mitigation_executions (repository_id) VALUES (1)", "TRUNCATE validation_executions",
        "CREATE TABLE mine (id int)", "SELECT 1 FROM repositories FOR UPDATE",
        "COPY repositories TO PROGRAM 'true'", "SELECT pg_read_file('postgresql.conf')",
        "SELECT * FROM pg_authid", "SET ROLE postgres",
    ):
        refused(postgres, role, statement, "42501", **WRITABLE)


def test_limits(postgres, role):
    show = lambda name: postgres.query(role, f"SHOW {name}", user="rsolv_exporter")
    assert show("default_transaction_read_only") == "on"
    assert show("statement_timeout") == "1min"
    assert show("lock_timeout") == "5s"
    assert show("idle_in_transaction_session_timeout") == "1min"
    assert postgres.query(role, """
        SELECT rolcanlogin, rolinherit, rolsuper, rolcreatedb, rolcreaterole, rolreplication, rolbypassrls,
               rolconnlimit FROM pg_roles WHERE rolname = 'rsolv_exporter'""") == "t|f|f|f|f|f|f|5"


def test_no_password_is_set_or_shipped(postgres, role):
    assert postgres.query(role, "SELECT rolpassword IS NULL FROM pg_authid WHERE rolname = 'rsolv_exporter'") == "t"


def test_running_it_again_repairs_a_role_that_has_drifted(postgres, role):
    postgres.query(role, """
        CREATE TABLE secrets (token text);
        CREATE FUNCTION dangerous() RETURNS int LANGUAGE sql AS 'SELECT 1';
        REVOKE ALL ON FUNCTION dangerous() FROM PUBLIC;
        GRANT EXECUTE ON FUNCTION dangerous() TO rsolv_exporter;
        GRANT ALL ON ALL TABLES IN SCHEMA public TO rsolv_exporter;
        GRANT UPDATE (full_path) ON repositories TO rsolv_exporter;
        GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO rsolv_exporter;
        GRANT CREATE ON SCHEMA public TO rsolv_exporter;
        GRANT pg_monitor TO rsolv_exporter;
        ALTER ROLE rsolv_exporter SUPERUSER CREATEDB CREATEROLE INHERIT BYPASSRLS CONNECTION LIMIT -1 PASSWORD 'kept';
        ALTER ROLE rsolv_exporter SET statement_timeout = 0;
        ALTER ROLE rsolv_exporter SET work_mem = '1GB';""")
    postgres.query(role, f"ALTER ROLE rsolv_exporter IN DATABASE {role} SET default_transaction_read_only = off")
    done = script(postgres, role, "role.sql")
    assert done.returncode == 0 and "warning" not in done.output, done.output
    assert privileges(postgres, role) == EXACTLY
    refused(postgres, role, "SELECT dangerous()", "42501")
    refused(postgres, role, "CREATE TABLE mine ()", "42501", **WRITABLE)
    test_limits(postgres, role)
    assert postgres.query(role, "SELECT count(*) FROM pg_auth_members WHERE member = 'rsolv_exporter'::regrole") == "0"
    assert postgres.query(role, "SELECT rolpassword IS NOT NULL FROM pg_authid WHERE rolname = 'rsolv_exporter'") == "t"


def test_a_table_owner_without_superuser_can_run_both(postgres):
    postgres.query("postgres", "CREATE ROLE platform LOGIN CREATEROLE")
    postgres.query("postgres", "CREATE DATABASE owned OWNER platform")
    must("psql", "-Xq", "-v", "ON_ERROR_STOP=1", "-f", DEPLOY.parent / "tests/support/schema.sql",
         env=postgres.env("owned", "platform"))
    for name in ("role.sql", "role.sql", "remove.sql"):
        done = script(postgres, "owned", name, user="platform")
        assert done.returncode == 0, done.output
        if name == "role.sql":
            assert privileges(postgres, "owned") == EXACTLY
    assert not exists(postgres)


def test_other_names(postgres, database):
    """A role and a schema whose names need quotes."""
    postgres.query(database, 'ALTER SCHEMA public RENAME TO "the Platform"; CREATE SCHEMA public')
    variables = ("role=Count \"Me\"", "schema=the Platform", "limit=2")
    done = script(postgres, database, "role.sql", *variables)
    assert done.returncode == 0, done.output
    assert postgres.query(database, 'SELECT count(full_path) FROM "the Platform".repositories', user='Count "Me"') == "0"
    done = script(postgres, database, "remove.sql", variables[0])
    assert done.returncode == 0 and not exists(postgres, 'Count "Me"'), done.output


def test_what_public_may_do_is_said(postgres, role):
    postgres.query(role, "GRANT INSERT ON repositories TO PUBLIC; GRANT CREATE ON SCHEMA public TO PUBLIC")
    done = script(postgres, role, "role.sql")
    assert done.returncode == 0
    assert "can create tables" in done.stderr and "can write to tables" in done.stderr


def test_nothing_is_left_half_done_when_a_table_is_missing(postgres, database):
    postgres.query(database, "DROP TABLE mitigation_executions")
    done = script(postgres, database, "role.sql")
    assert done.returncode != 0 and "mitigation_executions" in done.stderr
    assert not exists(postgres)


def test_removal_names_what_is_in_the_way(postgres, role):
    other = postgres.database()
    done = script(postgres, other, "role.sql")
    assert done.returncode == 0, done.output
    done = script(postgres, role, "remove.sql")
    assert done.returncode != 0 and other in done.stderr, done.output
    assert exists(postgres) and privileges(postgres, role) == EXACTLY, "something changed all the same"
    done = script(postgres, other, "remove.sql", "drop=off")
    assert done.returncode == 0 and exists(postgres), done.output
    assert privileges(postgres, other) == set()


def test_removal_of_nothing_is_fine(postgres, database):
    done = script(postgres, database, "remove.sql")
    assert done.returncode == 0 and "there is no role" in done.stdout
