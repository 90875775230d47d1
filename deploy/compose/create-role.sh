#!/bin/bash
# Run by the postgres image when its volume is empty: the exporter's role, as deploy/postgres makes it.
set -euo pipefail
psql -X -U "$POSTGRES_USER" -d "$POSTGRES_DB" -f /usr/local/share/rsolv-exporter/postgres/role.sql
# By hand this is \password's work; a demonstration has nobody at the keyboard.
psql -X -q -U "$POSTGRES_USER" -d "$POSTGRES_DB" -v ON_ERROR_STOP=1 -v password="$EXPORTER_PASSWORD" \
  <<<"ALTER ROLE rsolv_exporter PASSWORD :'password'"
