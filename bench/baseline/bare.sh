# A first deploy as a person would type it: the same packages and pip steps as the role, and nothing else.
# Run as root over one SSH connection, with the app as a tar archive on standard input; PIP_CERT may be set.
set -eu
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
apt-get install -y -q --no-install-recommends nginx python3 python3-venv
useradd --system --no-create-home --shell /usr/sbin/nologin hello
mkdir -p /opt/hello/src
tar -x -C /opt/hello/src
python3 -m venv /opt/hello/venv
/opt/hello/venv/bin/pip install --quiet --disable-pip-version-check -r /opt/hello/src/requirements.txt
cat > /etc/systemd/system/hello.service <<UNIT
[Unit]
After=network.target
[Service]
User=hello
WorkingDirectory=/opt/hello/src
ExecStart=/opt/hello/venv/bin/gunicorn --worker-class gevent --workers 2 --bind 127.0.0.1:5000 app:app
Restart=always
[Install]
WantedBy=multi-user.target
UNIT
cat > /etc/nginx/sites-enabled/default <<SITE
server {
    listen 80 default_server;
    location /static/ {
        alias /opt/hello/src/static/;
    }
    location / {
        proxy_pass http://127.0.0.1:5000;
        proxy_set_header Host \$http_host;
        proxy_set_header X-Forwarded-For \$proxy_add_x_forwarded_for;
        proxy_set_header X-Forwarded-Proto \$scheme;
    }
}
SITE
systemctl daemon-reload
systemctl enable --quiet --now hello nginx
nginx -t -q
systemctl reload nginx
until python3 -c 'import urllib.request as u; u.urlopen("http://127.0.0.1/")' 2>/dev/null; do sleep 0.1; done
