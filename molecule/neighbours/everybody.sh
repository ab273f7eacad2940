#!/bin/sh
# What other people have on a host before the first release: accounts, data, services, sites, an Apache, a dead package source.
set -e
export DEBIAN_FRONTEND=noninteractive

# Apache on a port of its own; masked, or its package starts it on that of nginx
ln -s /dev/null /etc/systemd/system/apache2.service
apt-get install -yq --no-install-recommends apache2 iproute2 python3-venv
rm /etc/systemd/system/apache2.service
sed -i 's/^Listen 80$/Listen 8081/' /etc/apache2/ports.conf
sed -i 's/<VirtualHost \*:80>/<VirtualHost *:8081>/' /etc/apache2/sites-available/000-default.conf

# a service set up by hand, as tutorials do
useradd -m -s /bin/bash shop
install -d -o shop -g shop /srv/shop /srv/shop/uploads
echo customer-data > /srv/shop/uploads/invoice.pdf
printf '[Service]\nUser=shop\nExecStart=/bin/sleep 86400\n' > /etc/systemd/system/shop.service
printf 'server { listen 127.0.0.1:8099; server_name shop.test; }\n' > /etc/nginx/sites-available/shop.conf

# what a vendor's package makes; a person; somebody's drop-in for a service that is not there
groupadd --system ledger
useradd --system --home-dir /opt/vendor --shell /usr/sbin/nologin vendor
install -d /var/lib/ledger && echo 1 > /var/lib/ledger/book
mkdir -p /etc/systemd/system/audit.service.d
printf '[Service]\nNice=5\n' > /etc/systemd/system/audit.service.d/local.conf
useradd -m -s /bin/bash webmaster
install -d -o webmaster -m 700 /home/webmaster/.ssh
echo 'ssh-ed25519 AAAA' > /home/webmaster/.ssh/authorized_keys

# a site on an address of the host, which is there before nginx
cat > /etc/systemd/system/address.service <<'U'
[Unit]
Before=nginx.service
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=ip address add 192.0.2.10/32 dev lo
[Install]
WantedBy=multi-user.target
U
mkdir -p /var/www/fritz && echo 'a neighbour' > /var/www/fritz/index.html
cat > /etc/nginx/sites-available/fritz <<'U'
server {
    listen 192.0.2.10:8082;
    root /var/www/fritz;
}
U

# a site that certbot has edited, with certbot's files
archive=/etc/letsencrypt/archive/gerda.test live=/etc/letsencrypt/live/gerda.test
install -d -m 700 /etc/letsencrypt/archive /etc/letsencrypt/live && mkdir "$archive" "$live"
openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=gerda.test -keyout "$archive/privkey1.pem" -out "$archive/fullchain1.pem"
chmod 600 "$archive/privkey1.pem"
for name in privkey fullchain; do ln -s "../../archive/gerda.test/${name}1.pem" "$live/$name.pem"; done
echo 'ssl_session_timeout 1440m;' > /etc/letsencrypt/options-ssl-nginx.conf
mkdir -p /var/www/gerda && echo 'a neighbour' > /var/www/gerda/index.html
cat > /etc/nginx/sites-available/gerda <<'U'
server {
    server_name gerda.test;
    root /var/www/gerda;

    listen 443 ssl; # managed by Certbot
    ssl_certificate /etc/letsencrypt/live/gerda.test/fullchain.pem; # managed by Certbot
    ssl_certificate_key /etc/letsencrypt/live/gerda.test/privkey.pem; # managed by Certbot
    include /etc/letsencrypt/options-ssl-nginx.conf; # managed by Certbot
}
server {
    if ($host = gerda.test) {
        return 301 https://$host$request_uri;
    } # managed by Certbot

    listen 80;
    server_name gerda.test;
    return 404; # managed by Certbot
}
U
ln -s ../sites-available/fritz ../sites-available/gerda /etc/nginx/sites-enabled/

systemctl daemon-reload
systemctl enable --now address.service apache2.service
systemctl disable --now apache-htcacheclean.service
systemctl restart nginx.service

# gone, as every older server has one
echo 'deb [trusted=yes] http://packages.example.invalid/debian gone main' > /etc/apt/sources.list.d/vendor.list
