#!/bin/sh
# Make an authority, a certificate for each server that the arguments name, and Valkey's users with their passwords.
# Folders: /secret has the authority's key, /authority its certificate, /out/NAME what the server NAME needs.
# ROOT stands before these folders; Scrip's tests set it.
set -eu
umask 077
root=${ROOT:-}
days=730
renew_s=$((30 * 86400))

is_valid() {
  openssl x509 -checkend "$renew_s" -noout -in "$1" >/dev/null 2>&1
}

new_key() {
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes "$@" 2>/dev/null
}

ca=$root/authority/ca.pem
if ! is_valid "$ca"; then
  new_key -x509 -days "$days" -subj "/CN=Scrip compose" -keyout "$root/secret/ca.key" -out "$ca"
  rm -f "$root"/out/*/cert.pem
fi
chmod 644 "$ca"

for name in "$@"; do
  out=$root/out/$name
  if ! is_valid "$out/cert.pem"; then
    new_key -subj "/CN=$name" -keyout "$out/key.pem" -out "$out/request.pem"
    printf 'subjectAltName=DNS:%s,DNS:localhost,IP:127.0.0.1\n' "$name" >"$out/extension"
    openssl x509 -req -days "$days" -in "$out/request.pem" -CA "$ca" -CAkey "$root/secret/ca.key" -CAcreateserial \
      -CAserial "$root/secret/ca.serial" -extfile "$out/extension" -out "$out/cert.pem" 2>/dev/null
    rm "$out/request.pem" "$out/extension"
  fi
  cp "$ca" "$out/ca.pem"
  # HAProxy reads both from one file.
  cat "$out/cert.pem" "$out/key.pem" >"$out/both.pem"
done

digest() {
  printf %s "$1" | sha256sum | cut -d ' ' -f 1
}

sed -e '/^user /!d' \
  -e "s/#API_PASSWORD_SHA256/#$(digest "$SCRIP_API_PASSWORD")/" \
  -e "s/#WORKER_PASSWORD_SHA256/#$(digest "$SCRIP_WORKER_PASSWORD")/" \
  -e "s/#ADMIN_PASSWORD_SHA256/#$(digest "$REDIS_ADMIN_PASSWORD")/" \
  -e '/_SHA256/d' \
  "$root/redis-acl" >"$root/out/valkey/users.acl"

# The images of Valkey and Postgres run as 999, that of HAProxy as 99.
if [ "$(id -u)" = 0 ]; then
  for name in "$@"; do
    case $name in
      proxy) owner=99 ;;
      *) owner=999 ;;
    esac
    chown -R "$owner:$owner" "$root/out/$name"
  done
  chmod 755 "$root/authority"
fi
