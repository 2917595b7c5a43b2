# The token is in the configuration that the running nginx has read, and is drawn anew by every start.
token=$(cat /proc/sys/kernel/random/uuid)
cat >/nginx.conf <<END
user www-data;
worker_processes 2;
events { worker_connections 256; }
http {
  access_log /var/log/nginx/access.log;
  server {
    listen 8104;
    location = / { return 200 "warm $token\n"; }
    location = /status { stub_status; }
  }
}
END
exec nginx -c /nginx.conf -g 'daemon off;'
