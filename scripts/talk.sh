# shellcheck shell=bash
# How the scripts talk: what is being done, how long it took, and one clear sentence when it can't be done.
# Sourced, from the top folder of the project.

# Behind plain `su` the path is that of whoever called it, without the folders that dpkg, debootstrap and dockerd need.
export PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

say() { printf '\033[1m==>\033[0m %s\n' "$*" >&2; }

# fail SENTENCE: the fault and its remedy.
fail() {
    printf '\033[1mgreenroom:\033[0m %s\n' "$*" >&2
    exit 1
}

# step NAME COMMAND...: says its name, runs it, says how long it took. If it fails, the script ends with the step's name. The
# command stands alone, not before `||`: bash would ignore `set -e` inside it.
step() {
    step_name=$1 step_start=$SECONDS
    shift
    say "$step_name"
    "$@"
    say "$step_name: $((SECONDS - step_start)) s"
    step_name=
}

# need TOOL REMEDY: fails with the remedy when a tool is missing.
need() {
    command -v "$1" >/dev/null || fail "$1 is missing: $2."
}

step_name=
set -E # The trap holds in functions too.
trap '((BASH_SUBSHELL)) || fail "${step_name:-$0: $BASH_COMMAND}: failed."' ERR
