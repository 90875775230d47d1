-- A part of role.sql and remove.sql, which include it: takes every right in this database from the role.
-- Revoking a table's privileges revokes those of its columns as well.

SELECT format('REVOKE ALL ON %s %I.%I FROM %I',
         CASE WHEN c.relkind = 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, n.nspname, c.relname, :'role')
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
  AND (EXISTS (SELECT FROM aclexplode(c.relacl) a
               WHERE a.grantee = (SELECT oid FROM pg_roles WHERE rolname = :'role'))
       OR EXISTS (SELECT FROM pg_attribute t, aclexplode(t.attacl) a
                  WHERE t.attrelid = c.oid
                    AND a.grantee = (SELECT oid FROM pg_roles WHERE rolname = :'role')))
\gexec
SELECT format('REVOKE ALL ON SCHEMA %I FROM %I', n.nspname, :'role')
FROM pg_namespace n
WHERE EXISTS (SELECT FROM aclexplode(n.nspacl) a
              WHERE a.grantee = (SELECT oid FROM pg_roles WHERE rolname = :'role'))
\gexec
SELECT format('REVOKE ALL ON ROUTINE %s FROM %I', p.oid::regprocedure, :'role')
FROM pg_proc p
WHERE EXISTS (SELECT FROM aclexplode(p.proacl) a
              WHERE a.grantee = (SELECT oid FROM pg_roles WHERE rolname = :'role'))
\gexec
REVOKE ALL ON DATABASE :"DBNAME" FROM :"role";
