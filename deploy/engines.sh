#!/bin/sh
# Fetches ClickHouse's library (libchdb) for the embedded engine into the user's
# cache. Does nothing when it is there. Needs npm; the package is about 180 MB.
#
# CHDB_LIB_PATH, when set, names a library of your own and nothing is fetched.
set -eu

version=26.7.3-stable.1
# sha512 of the package's tarball, as npm writes it ("integrity"). For systems
# without a value here npm's own check against the registry's value counts.
integrity_linux_x64_gnu='sha512-XP97mMqnc5tZpKQywR8N7cLTsHNiTmHr30pC5mzo3jWmukjKn2IBa60c2B/gWUNcuFjOMjWoorQICCqBVj5wpw=='

say() { printf 'engines: %s\n' "$*"; }
stop() { printf 'engines: %s\n' "$*" >&2; exit 1; }

if [ -n "${CHDB_LIB_PATH:-}" ]; then
    [ -f "$CHDB_LIB_PATH" ] || stop "CHDB_LIB_PATH is $CHDB_LIB_PATH, which does not exist. Correct it, or unset it to have the library fetched."
    say "using CHDB_LIB_PATH=$CHDB_LIB_PATH"
    exit 0
fi

directory="${XDG_CACHE_HOME:-$HOME/.cache}/fleetlog/chdb/$version"
library="$directory/libchdb.so"
if [ -s "$library" ]; then
    say "ClickHouse library $version is in place ($library)"
    exit 0
fi

integrity=''
case "$(uname -s)-$(uname -m)" in
    Linux-x86_64) platform=linux-x64-gnu integrity=$integrity_linux_x64_gnu ;;
    Linux-aarch64 | Linux-arm64) platform=linux-arm64-gnu ;;
    Darwin-arm64) platform=darwin-arm64 ;;
    Darwin-x86_64) platform=darwin-x64 ;;
    *) stop "there is no ClickHouse library for $(uname -s) on $(uname -m). Use an external ClickHouse: fleetlog run --clickhouse http://host:8123" ;;
esac
package="@chdb/lib-$platform@$version"

command -v npm >/dev/null 2>&1 ||
    stop "npm is missing and is needed to fetch $package. Install Node.js (Debian: apt-get install npm), or set CHDB_LIB_PATH to a libchdb.so, or use an external ClickHouse: fleetlog run --clickhouse http://host:8123"

mkdir -p "$directory"
# Everything happens in a directory of our own beside the target, so that a
# broken download never counts and two runs do not disturb each other.
work=$(mktemp -d "$directory/.fetch.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM HUP

say "fetching $package (about 180 MB) ..."
npm pack --silent --pack-destination "$work" "$package" >"$work/name" ||
    stop "npm could not fetch $package. Check the network and npm's registry (npm config get registry), then run this again; if there is no such package for your system, use an external ClickHouse: fleetlog run --clickhouse http://host:8123"
tarball="$work/$(tail -n 1 "$work/name")"
[ -s "$tarball" ] || stop "npm fetched nothing for $package. Run this again; if it persists, run: npm pack $package"

if [ -n "$integrity" ]; then
    command -v openssl >/dev/null 2>&1 || stop "openssl is missing and is needed to check the download. Install it (Debian: apt-get install openssl)."
    got="sha512-$(openssl dgst -sha512 -binary "$tarball" | openssl base64 -A)"
    [ "$got" = "$integrity" ] || stop "the download is not the package this version expects (got $got, want $integrity). Do not use it; check npm's registry (npm config get registry)."
fi

say "unpacking ..."
tar -xzf "$tarball" -C "$work" package/libchdb.so ||
    stop "the library could not be unpacked (tar's reason is above); it needs about 600 MB in $directory. Make room and run this again."
mv "$work/package/libchdb.so" "$library"
say "ClickHouse library $version is in place ($library)"
