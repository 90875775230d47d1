#!/usr/bin/env bash
# Builds the Dockerfile with buildah and looks at the image: what is in it, how large it is, how the
# exporter runs as its process 1. Ends with one line: N passed, N failed.
#
# No registry is asked. The base images are stand-ins that mmdebstrap makes of Debian's packages: for the
# build, with this machine's Rust; for the image, the packages that distroless `cc` lists. They stay in
# .tools/image/ (1.5 GB). Needs root.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

say() { printf 'test-image: %s\n' "$*"; }

[[ $(id -u) == 0 ]] || { say "run it as root: it makes and mounts file systems" >&2; exit 1; }
tests/setup.sh build image

home=$PWD/.tools/image
cargo_home=${CARGO_HOME:-$HOME/.cargo}
bases=$(sed -n 's/^ARG RUST_VERSION=//p; s/^FROM //p' deploy/docker/Dockerfile)
{ read -r rust; read -r build; read -r run; } <<<"$bases"
build=${build%% *}
# shellcheck disable=SC2016 # as it stands in the Dockerfile
build=docker.io/library/${build/'${RUST_VERSION}'/$rust}

mkdir -p "$home"
work=$(mktemp -d)
container=
built() { buildah --root "$home/storage" --runroot "$work/run" --storage-driver vfs "$@"; }
clean() {
  if [[ -n $container ]]; then
    built umount "$container" >/dev/null
    built rm "$container" >/dev/null
  fi
  rm -rf "$work"
}
trap clean EXIT

# What a run before this one has left.
built rm --all >/dev/null
built rmi --prune --force >/dev/null 2>&1 || true

# An image of a folder or archive, with these settings.
image() { # NAME CONTENT SETTING...
  local name=$1 content=$2 made
  shift 2
  made=$(built from scratch)
  built add --quiet "$made" "$content" / >/dev/null
  built config "$@" "$made"
  built commit --quiet "$made" "$name" >/dev/null
  built rm "$made" >/dev/null
}

if ! built inspect --type image "$build" >/dev/null 2>&1; then
  say "making a stand-in for $build"
  mmdebstrap --quiet --variant=minbase --include=gcc,libc6-dev,libssl-dev,pkg-config,ca-certificates \
    bookworm "$work/build"
  sysroot=$(rustc --print sysroot)
  mkdir -p "$work/build/usr/local/cargo"
  (cd "$sysroot" && tar -c --exclude='lib/rustlib/src' bin/cargo bin/rustc lib) | tar -x -C "$work/build/usr/local"
  # The usual authorities, for the other stand-in.
  cp "$work/build/etc/ssl/certs/ca-certificates.crt" "$home/"
  image "$build" "$work/build" --env CARGO_HOME=/usr/local/cargo
  rm -rf "$work/build"
fi
if ! built inspect --type image "$run" >/dev/null 2>&1; then
  say "making a stand-in for $run"
  # Unpacked alone: no package's script has run, and there is no shell.
  mmdebstrap --quiet --variant=extract bookworm "$work/base" \
    --include=base-files,libc6,libssl3,libgcc-s1,gcc-12-base,libstdc++6,libgomp1,tzdata,netbase,media-types
  rm -rf "$work"/base/var/{cache,lib/apt,log}/* "$work/base/dev"
  mkdir -p "$work/base/etc/ssl/certs" "$work/base"/{dev,proc,sys,tmp}
  cp "$home/ca-certificates.crt" "$work/base/etc/ssl/certs/"
  printf '%s\n' 'root:x:0:0:root:/root:/sbin/nologin' 'nonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin' \
    >"$work/base/etc/passwd"
  image "$run" "$work/base" --user 65532
  (cd "$work/base" && find . | LC_ALL=C sort) >"$home/base-files"
  rm -rf "$work/base"
fi

say "building the image (a release build: some minutes)"
# The registry of this machine, so that nothing is fetched twice.
mkdir -p "$cargo_home/registry"
built bud --quiet --isolation chroot --pull-never --format docker --tag rsolv-exporter \
  --ignorefile deploy/docker/Dockerfile.dockerignore --file deploy/docker/Dockerfile \
  --build-arg "RUST_VERSION=$rust" --build-arg "REVISION=$(git rev-parse HEAD)" \
  --build-arg "SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)" \
  --volume "$cargo_home/registry:/usr/local/cargo/registry" . >"$work/log" 2>&1 ||
  { tail -n 40 "$work/log" >&2; exit 1; }
container=$(built from rsolv-exporter)
built commit --quiet --format oci "$container" rsolv-exporter:oci >/dev/null
built inspect --type image rsolv-exporter >"$work/docker.json"
built inspect --type image rsolv-exporter:oci >"$work/oci.json"
RSOLV_TEST_IMAGE=$work
RSOLV_TEST_IMAGE_ROOT=$(built mount "$container")
export RSOLV_TEST_IMAGE RSOLV_TEST_IMAGE_ROOT RSOLV_TEST_IMAGE_BASE=$home/base-files
tests/deploy/run.sh -k test_image.py
