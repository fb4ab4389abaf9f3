"""Azure's own client for Blob storage: conditions, lists in pages, and who is let in. What it saw goes to standard output as one
JSON object.

Usage: store.py CONTAINER
"""

import json
import sys

from azure.core import MatchConditions
from azure.core.credentials import AccessToken
from azure.storage.blob import BlobServiceClient, ContentSettings
from sandbox import credential, env, refusal

container_name = sys.argv[1]
container = BlobServiceClient(env["SANDBOX_BLOB_URL"], credential=credential).get_container_client(container_name)
settings = ContentSettings(content_type="application/json")

blob = container.get_blob_client("trial/a b.json")
first = blob.upload_blob(b'{"n":1}', content_settings=settings)
twice = refusal(lambda: blob.upload_blob(b'{"n":9}'))
second = blob.upload_blob(
    b'{"n":2}', overwrite=True, etag=first["etag"], match_condition=MatchConditions.IfNotModified, content_settings=settings
)
stale = refusal(
    lambda: blob.upload_blob(b'{"n":9}', overwrite=True, etag=first["etag"], match_condition=MatchConditions.IfNotModified)
)
download = blob.download_blob()
for number in range(5):
    container.upload_blob(f"trial/{number}", str(number))
pages = [[blob.name for blob in page] for page in container.list_blobs(name_starts_with="trial/", results_per_page=4).by_page()]
folders = [item.name for item in container.walk_blobs(delimiter="/") if item.name.endswith("/")]
still = refusal(lambda: blob.delete_blob(etag=first["etag"], match_condition=MatchConditions.IfNotModified))
blob.delete_blob(etag=second["etag"], match_condition=MatchConditions.IfNotModified)
gone = refusal(blob.get_blob_properties)


class Elsewhere:
    """A credential whose tokens are for another service."""

    def get_token(self, *scopes, **options) -> AccessToken:
        return credential.get_token("https://management.azure.com/.default")


def named(credential):
    return BlobServiceClient(env["SANDBOX_BLOB_URL"], credential=credential).get_blob_client(container_name, "trial/0")


print(
    json.dumps(
        {
            "etags": [first["etag"], second["etag"]],
            "twice": twice,
            "stale": stale,
            "content": download.readall().decode(),
            "type": download.properties.content_settings.content_type,
            "pages": pages,
            "folders": folders,
            "still": still,
            "gone": gone,
            "elsewhere": refusal(named(Elsewhere()).download_blob),
            "nobody": refusal(named(None).download_blob),
        }
    )
)
