#!/bin/sh
# Waits until the harness is gone, in whatever way it went, then ends the
# PostgreSQL server below the directory $1, if any, and removes the directory.
trap '' HUP INT TERM
cat >/dev/null # ends when the harness's side of the pipe closes

data=$1/data
# The server works in its data directory: a process that does not is another
# one that was given the number since.
server_runs() {
    pid=$(head -n 1 "$data/postmaster.pid" 2>/dev/null) && [ -n "$pid" ] &&
        [ "$(readlink "/proc/$pid/cwd")" = "$data" ]
}

tries=0
while server_runs && [ "$tries" -lt 300 ]; do
    kill -CONT "$pid" 2>/dev/null # it may have been paused
    [ "$tries" -eq 0 ] && kill -QUIT "$pid" 2>/dev/null
    [ "$tries" -eq 200 ] && kill -KILL "$pid" 2>/dev/null
    tries=$((tries + 1))
    sleep 0.05
done

# A server that was killed leaves its shared memory segment behind.
segment=$(sed -n 7p "$data/postmaster.pid" 2>/dev/null)
[ -n "$segment" ] && ipcrm -m "${segment##* }" 2>/dev/null

# Other programs that are ending too may add files until they have.
tries=0
until rm -rf "$1" || [ "$tries" -eq 100 ]; do
    tries=$((tries + 1))
    sleep 0.05
done
