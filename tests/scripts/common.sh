# Read by the scripts beside it: what they say, and how a package of the system is installed.

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }

as_root_with_apt() { [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; }

# Installs packages of Debian and what descends from it, asking nothing. The lists of packages are brought up
# to date first: a machine may have none, or some that name files which are gone by now.
apt_install() {
    say "installing $* with apt"
    {
        apt-get update -q &&
            DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends \
                -o DPkg::Lock::Timeout=120 "$@"
    } >&2 </dev/null
}

# A python3 that can make environments, with pip inside. Debian splits it into packages.
python_with_venv() { python3 -c 'import venv, ensurepip' 2>/dev/null; }

# Sees that there is one, installs it, or says how.
need_python() {
    python_with_venv && return
    if as_root_with_apt; then
        apt_install python3 python3-venv || true
        hash -r
        python_with_venv && return
    fi
    if command -v python3 >/dev/null; then
        say "python3 cannot make environments. Install its venv (Debian: apt install python3-venv); then run this again."
    else
        say "python3 is missing. Install it (Debian: apt install python3 python3-venv, Fedora: dnf install python3,"
        say "macOS: brew install python3); then run this again."
    fi
    return 1
}
