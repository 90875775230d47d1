-- A database role for rsolv-exporter that can read what the exporter reads and nothing else.
--
--   psql -X -v ON_ERROR_STOP=1 -d rsolv -f role.sql
--   psql -X -d rsolv -c '\password rsolv_exporter'
--
-- Run it as the owner of the tables or as a superuser, in the database that holds them. It works for
-- a role that does not exist yet and for one that does: an existing role loses every membership and
-- whatever else it was granted on this database, its schemas, tables, sequences and functions, so
-- running it again repairs a role that has drifted. What it owns stays its own, with a warning.
-- Everything happens in one transaction. The password is not touched: set it afterwards with
-- \password, which hashes it on the client, so that neither the shell history nor the server's log
-- sees it.
--
-- Variables (psql -v name=value):
--   role    the role's name              rsolv_exporter
--   schema  the schema of the tables     public
--   limit   CONNECTION LIMIT             5: the exporter holds one connection; the rest is for
--                                        replicas, `rsolv-exporter check` and an overlapping restart

\set ON_ERROR_STOP on
\set QUIET on
\if :{?role}
\else
  \set role rsolv_exporter
\endif
\if :{?schema}
\else
  \set schema public
\endif
\if :{?limit}
\else
  \set limit 5
\endif

BEGIN;

-- Two people running this at once would otherwise race between "does it exist" and CREATE ROLE.
SELECT pg_advisory_xact_lock(hashtext('rsolv_exporter role.sql')) \g /dev/null

SELECT format('CREATE ROLE %I', :'role')
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'role')
\gexec

ALTER ROLE :"role" LOGIN NOINHERIT CONNECTION LIMIT :limit;

-- Who does not have these attributes (most of them are a superuser's) may not even name them in ALTER
-- ROLE, and managed databases give out no superuser: so they are named only where there is something
-- to take away.
SELECT format('ALTER ROLE %I %s', rolname, concat_ws(' ',
         CASE WHEN rolsuper THEN 'NOSUPERUSER' END,
         CASE WHEN rolcreatedb THEN 'NOCREATEDB' END,
         CASE WHEN rolcreaterole THEN 'NOCREATEROLE' END,
         CASE WHEN rolreplication THEN 'NOREPLICATION' END,
         CASE WHEN rolbypassrls THEN 'NOBYPASSRLS' END))
FROM pg_roles
WHERE rolname = :'role' AND (rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication OR rolbypassrls)
\gexec

-- NOINHERIT alone would still allow SET ROLE: memberships go.
SELECT format('REVOKE %I FROM %I', granted.rolname, :'role')
FROM pg_auth_members
JOIN pg_roles granted ON granted.oid = roleid
WHERE member = (SELECT oid FROM pg_roles WHERE rolname = :'role')
\gexec

-- Guard rails for the server's side of the connection. The exporter sets its own, tighter ones in
-- every transaction; these hold for whoever else logs in as this role. There is no
-- idle_session_timeout on purpose: between two polls the exporter's connection is idle.
-- RESET first: a setting for this database would win over one of the role.
ALTER ROLE :"role" RESET ALL;
ALTER ROLE :"role" IN DATABASE :"DBNAME" RESET ALL;
ALTER ROLE :"role" SET default_transaction_read_only = on;
ALTER ROLE :"role" SET statement_timeout = '60s';
ALTER ROLE :"role" SET lock_timeout = '5s';
ALTER ROLE :"role" SET idle_in_transaction_session_timeout = '60s';

-- Start from nothing, whatever was granted before.
\ir revoke.sql

GRANT CONNECT ON DATABASE :"DBNAME" TO :"role";
GRANT USAGE ON SCHEMA :"schema" TO :"role";

GRANT SELECT (id, full_path) ON :"schema".repositories TO :"role";
GRANT SELECT (id, repository_id, status, vulnerabilities_found, data, started_at, completed_at,
              error_message, inserted_at, updated_at) ON :"schema".validation_executions TO :"role";
GRANT SELECT (id, repository_id, status, pr_url, pr_number, data, started_at, completed_at,
              error_message, inserted_at, updated_at) ON :"schema".mitigation_executions TO :"role";

-- The sequences tell a restored or rewound database from a quiet one. SELECT lets the role read
-- them, not advance them.
GRANT SELECT ON SEQUENCE :"schema".validation_executions_id_seq,
                         :"schema".mitigation_executions_id_seq TO :"role";

COMMIT;

-- What PUBLIC may do, every role may do, this one too. That is the database owner's to change; here
-- it is only said. (PostgreSQL 14 and older let PUBLIC create tables in the schema public.)
SELECT has_schema_privilege(:'role', :'schema', 'CREATE') AS may_create,
       EXISTS (
         SELECT FROM pg_class c
         JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname = :'schema' AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
           AND (has_table_privilege(:'role', c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE')
                OR has_any_column_privilege(:'role', c.oid, 'INSERT, UPDATE'))
       ) AS may_write
\gset
\if :may_create
  \warn 'warning: this role can create tables, because PUBLIC may: consider REVOKE CREATE ON SCHEMA' :schema 'FROM PUBLIC'
\endif
\if :may_write
  \warn 'warning: this role can write to tables of schema' :schema 'because PUBLIC may, or because it owns them'
\endif
\echo role :role 'can read the executions in database' :DBNAME
\echo 'next: set its password with  \\password' :role
