# PostgreSQL with the tables of pgbench; pgbench itself runs from /pg/go to /pg/rest.
mkdir -p /pg/data && chown -R postgres /pg && cd /pg || exit 1
bin=$(echo /usr/lib/postgresql/*/bin)
as() { setpriv --reuid postgres --regid postgres --init-groups "$@"; }
as "$bin/initdb" -D /pg/data >/pg/initdb.log || exit 1
as "$bin/postgres" -D /pg/data -k /tmp -c listen_addresses= &
until as psql -h /tmp -c 'select 1' >/dev/null 2>&1; do sleep 0.1; done
as "$bin/pgbench" -h /tmp -i -q -s 2 >/pg/init.log 2>&1
until [[ -e /pg/go ]]; do sleep 0.1; done
as "$bin/pgbench" -h /tmp -c 4 -j 2 -R 200 -T 3600 -n >/pg/pgbench.log 2>&1 &
pgbench=$!
until [[ -e /pg/rest ]]; do sleep 0.2; done
kill -TERM "$pgbench"
wait "$pgbench"
printf '\nended %s\n' "$?" >>/pg/pgbench.log
wait
