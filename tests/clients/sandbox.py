"""What each client here needs of the sandbox: a sign-in that asks no public cloud, its addresses, and its clock."""

import os

import requests
from azure.core.exceptions import AzureError
from azure.identity import ClientSecretCredential

env = os.environ

credential = ClientSecretCredential(
    env["SANDBOX_TENANT_ID"],
    env["SANDBOX_CLIENT_ID"],
    env["SANDBOX_CLIENT_SECRET"],
    authority=env["SANDBOX_ENTRA_URL"],
    # Without this the client asks the public cloud whether the authority is one of Azure's.
    disable_instance_discovery=True,
)

resource_manager = {
    "base_url": env["SANDBOX_ARM_URL"],
    "credential_scopes": ["https://management.azure.com/.default"],
}


def passes(seconds):
    """Moves the world's clock, and ends when nothing is due any more."""
    answer = requests.post(
        env["SANDBOX_CONTROL_URL"] + "/clock",
        json={"advance": f"PT{seconds}S"},
        headers={"Authorization": "Bearer " + env["SANDBOX_CONTROL_TOKEN"]},
        timeout=120,
    )
    answer.raise_for_status()


def refusal(ask):
    """The refusal that a client makes of an answer, as its caller sees it; None where there was none."""
    try:
        ask()
        return None
    except AzureError as error:
        code = getattr(error, "error_code", None) or getattr(getattr(error, "error", None), "code", None)
        return {"name": type(error).__name__, "status": getattr(error, "status_code", None), "code": str(code) if code else None}
