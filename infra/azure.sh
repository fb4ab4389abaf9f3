#!/usr/bin/env bash
# What the scripts that call Azure share. It is sourced, not run.

die() {
  echo "${0##*/}: $*" >&2
  exit 1
}

# Whoever is not signed in would else learn so from the middle of a deployment.
signed_in() {
  command -v az >/dev/null || die "the Azure CLI is missing: install it, see https://learn.microsoft.com/cli/azure/install-azure-cli"
  command -v python3 >/dev/null || die "python3 is missing: install Python 3.11 or later"
  az account show --output none 2>/dev/null || die "nobody is signed in: run az login, or az login --tenant TENANT; azd auth login alone is not enough"
}

# The value of a setting that azd's environment has after azd provision.
required() {
  [[ ${!1:-} ]] || die "$1 is not set: run it from azd, which has it after azd provision, or export what the deployment's outputs say"
}
