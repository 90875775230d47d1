-- Takes away what role.sql gave, and the role itself.
--
--   psql -X -v ON_ERROR_STOP=1 -d rsolv -f remove.sql
--
-- Stop the exporter first. Safe to run when the role is not there. If the role still has rights in
-- other databases, nothing is changed and PostgreSQL's error names them: with `-v drop=off` this
-- script takes away the rights in the database at hand and keeps the role; run it so in each of the
-- others, and once without.
--
-- Variables: role (rsolv_exporter), drop (on).

\set ON_ERROR_STOP on
\set QUIET on
\if :{?role}
\else
  \set role rsolv_exporter
\endif
\if :{?drop}
\else
  \set drop on
\endif

SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = :'role') AS found \gset
\if :found

BEGIN;

-- From the commit on nobody logs in as this role; a session that is open would keep its rights, so
-- end it (as far as whoever runs this may).
ALTER ROLE :"role" NOLOGIN;
SELECT count(pg_terminate_backend(pid)) AS ended
FROM pg_stat_activity
WHERE usename = :'role' AND pid <> pg_backend_pid() AND pg_has_role(usesysid, 'MEMBER')
\gset

\ir revoke.sql
ALTER ROLE :"role" IN DATABASE :"DBNAME" RESET ALL;

\if :drop
-- Not DROP OWNED: the role owns nothing, and if somebody made it own something, that is worth an
-- error and not a deleted table.
DROP ROLE :"role";
\else
ALTER ROLE :"role" LOGIN;
\endif

COMMIT;

\if :drop
  \echo role :role removed
\else
  \echo role :role 'has no rights left in database' :DBNAME
\endif

\else
  \echo there is no role :role
\endif
