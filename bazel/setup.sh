# Sourced by the scripts that build: checks that the tools are there, installs
# what is missing where there is apt-get, and sets BAZEL.
#
#   . bazel/setup.sh; set_up [flags for Bazel]
#
# All is looked up in the file system, not with apt, to cost no time when
# nothing is missing.

# The Bazel flags say which compiler is meant.
_wants_clang() {
  local flag
  for flag in "$@"; do
    case $flag in
      --config=[atu]*san | --config=fuzz | --config=clang | --repo_env=CC=clang*) return 0 ;;
    esac
  done
  return 1
}

_clang_is_complete() {
  command -v clang > /dev/null && command -v clang++ > /dev/null &&
    compgen -G "$(clang -print-resource-dir)/lib/*/libclang_rt.tsan*.a" > /dev/null &&
    compgen -G "$(clang -print-resource-dir)/lib/*/libclang_rt.fuzzer*.a" > /dev/null
}

_find_bazel() {
  BAZEL=$(command -v bazel || command -v bazelisk)
}

# Prints "what it is|its Debian package" of all that is missing.
_missing() {
  _find_bazel || echo 'Bazel|bazel-bootstrap'
  command -v g++ > /dev/null || echo 'g++|g++'
  command -v python3 > /dev/null || echo 'python3|python3'
  if _wants_clang "$@" && ! _clang_is_complete; then
    echo 'clang with its sanitizer libraries|clang'
    # Some releases have the libraries in a package of their own.
    echo '|libclang-rt-dev?'
  fi
  # Elsewhere the pinned archives stand in for these three.
  if command -v apt-get > /dev/null; then
    [ -e /usr/include/fmt/core.h ] || echo 'fmt|libfmt-dev'
    [ -e /usr/include/nlohmann/json.hpp ] || echo 'nlohmann-json|nlohmann-json3-dev'
    [ -e /usr/src/googletest/googletest ] || echo 'GoogleTest|googletest'
    # Without it tcpip-monitor has no line editor.
    [ -e /usr/include/histedit.h ] || echo 'libedit|libedit-dev?'
    # The test of the model is skipped without it.
    command -v spin > /dev/null || echo 'Spin|spin?'
    # So is that of the instructions for each message.
    command -v valgrind > /dev/null || echo 'Valgrind|valgrind?'
  fi
}

_install() {
  local sudo=
  if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo > /dev/null; then
      echo "Not root, and no sudo. The packages are: ${*%\?}" >&2
      return 1
    fi
    sudo=sudo
  fi
  local apt=($sudo env DEBIAN_FRONTEND=noninteractive apt-get -q -y
    -o DPkg::Lock::Timeout=300)
  echo "Installing: ${*%\?}" >&2
  # A stale index names packages that are gone. Offline the old one may do.
  "${apt[@]}" update > /dev/null < /dev/null || true
  local package packages=()
  for package in "$@"; do
    # A "?" marks what not every release has.
    if [[ $package == *\? ]]; then
      package=${package%\?}
      apt-cache show "$package" > /dev/null 2>&1 || continue
    fi
    packages+=("$package")
  done
  "${apt[@]}" install --no-install-recommends "${packages[@]}" \
    > /dev/null < /dev/null
}

# Debian's Bazel 7 has the rules that it needs on disk, for the WORKSPACE lane. In
# the other one, which is its default, it would ask the central registry.
_choose_lane() {
  local lane=
  if [ -e /usr/share/bazel/rules/cc ] &&
    [ "$BAZEL" = /usr/bin/bazel ]; then
    lane='common --noenable_bzlmod --enable_workspace'
  fi
  if [ -n "$lane" ]; then
    [ "$(cat system.bazelrc 2> /dev/null)" = "$lane" ] ||
      echo "$lane" > system.bazelrc
  else
    rm -f system.bazelrc
  fi
}

# install_missing COMMAND|PACKAGE...: the packages of those commands that are not
# there, if there is apt-get. A COMMAND alone is also the name of its package.
install_missing() {
  local each missing=()
  for each in "$@"; do
    command -v "${each%|*}" > /dev/null || missing+=("${each#*|}")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  if ! command -v apt-get > /dev/null; then
    echo "Missing on this machine, please install: ${missing[*]}" >&2
    return 1
  fi
  _install "${missing[@]}"
}

set_up() {
  # Bazel keeps its outputs under it.
  export HOME="${HOME:-$(eval echo "~$(id -un)")}"

  local missing
  missing=$(_missing "$@")
  if [ -n "$missing" ]; then
    if command -v apt-get > /dev/null; then
      _install $(cut -d '|' -f 2 <<< "$missing")
      missing=$(_missing "$@" | grep -v -e '^libedit|' -e '^Spin|' -e '^Valgrind|')
    fi
    if [ -n "$missing" ]; then
      echo 'Missing on this machine, please install:' >&2
      cut -d '|' -f 1 <<< "$missing" | sed -n 's/^./  &/p' >&2
      return 1
    fi
  fi
  _find_bazel && _choose_lane
}
