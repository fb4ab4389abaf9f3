#!/usr/bin/env bash
# Names every program that is missing or too old, with its cure, and fails if there is one: guard.sh cargo cc python3 …
set -euo pipefail

missing=0
lacks() {
  echo "make: $1" >&2
  missing=1
}

# The first number and the second of a version, as one number that can be compared.
version() {
  sed -nE '1s/[^0-9]*([0-9]+)\.([0-9]+).*/\1 \2/p' | { read -r major minor && echo $((major * 1000 + minor)) || echo 0; }
}

for program in "$@"; do
  found=$(command -v "$program" || true)
  case $program in
    cargo) [[ $found ]] || lacks "cargo is missing: install Rust with rustup, from https://rustup.rs" ;;
    cc) [[ $found ]] || lacks "a C compiler (cc) is missing: install gcc or clang, for example \`apt-get install build-essential\`" ;;
    c++) [[ $found ]] || lacks "a C++ compiler (c++) is missing: install g++ or clang, for example \`apt-get install g++\`" ;;
    curl) [[ $found ]] || lacks "curl is missing: install it, for example \`apt-get install curl\`" ;;
    npm) [[ $found ]] || lacks "npm is missing: it comes with Node 20 or later, from https://nodejs.org" ;;
    node)
      if [[ ! $found ]]; then
        lacks "node is missing: install Node 20 or later, from https://nodejs.org"
      elif (($(node --version | version) < 20000)); then
        lacks "node is $(node --version): install Node 20 or later, from https://nodejs.org"
      fi
      ;;
    python3)
      if [[ ! $found ]]; then
        lacks "python3 is missing: install Python 3.11 or later, with its venv"
      elif (($(python3 --version | version) < 3011)); then
        lacks "python3 is $(python3 --version): install Python 3.11 or later, with its venv"
      fi
      ;;
    *) lacks "guard.sh knows no program $program" ;;
  esac
done
exit $missing
