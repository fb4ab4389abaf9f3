"""Azure's own client for Logs Ingestion sends rows as the app's managed identity. What it saw goes to standard output as one JSON
object.

Usage: rows.py COUNT
"""

import json
import sys

from azure.identity import ManagedIdentityCredential
from azure.monitor.ingestion import LogsIngestionClient
from sandbox import credential, env, refusal

scopes = ["https://monitor.azure.com/.default"]
rule, stream = env["PORTCULLIS_LOGS_RULE_ID"], env["PORTCULLIS_LOGS_STREAM"]
rows = [{"EventUid": str(number), "EventMessage": f"{number} ".ljust(20_000, "x")} for number in range(int(sys.argv[1]))]

identity = ManagedIdentityCredential()
token = identity.get_token(*scopes)
client = LogsIngestionClient(env["SANDBOX_LOGS_URL"], identity, credential_scopes=scopes)
client.upload(rule, stream, rows)
refused = {
    "stream": refusal(lambda: client.upload(rule, "Custom-Nobodys_CL", rows[:1])),
    "rule": refusal(lambda: client.upload("dcr-00000000000000000000000000000000", stream, rows[:1])),
}
print(json.dumps({"signedIn": bool(token.token), "refused": refused}))
