"""Checks what is deployed without Azure and without Bicep's compiler, of which neither is to be had in tests.

Every Bicep file parses and has each of its parameters described; every name in it is declared, and what is declared is used;
every module gets the parameters that it has, and every output that is read is there. checkov finds nothing that checkov.yaml
does not explain. What is written in more than one place is the same: app settings, queues, containers, functions, event
filters, names of parameters. Scripts are checked by shellcheck and run against fake_az.py, JSON and YAML is read, the Azure
Policy is tried on JIT policies. It cannot tell whether Azure takes any of it.

Usage: check_bicep.py [ROOT], with the programs of infra/checks.txt beside the Python that runs it
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml
from pycep import BicepParser

import check_scripts

ROOT = Path(sys.argv[1] if len(sys.argv) > 1 else __file__).resolve()
ROOT = ROOT if ROOT.is_dir() else ROOT.parent.parent
INFRA = ROOT / "infra"
BIN = Path(sys.executable).parent

# Functions and words of the language that may stand where a name may; one that is not used anywhere may be missing here.
LANGUAGE = {
    *"array bool if for in int json object string true false null existing module output param resource targetScope var".split(),
    *"any concat contains empty environment first guid join last length loadJsonContent loadTextContent loadYamlContent managementGroup max".split(),
    *"resourceGroup resourceId split subscription subscriptionResourceId tenant tenantResourceId toLower union uniqueString".split(),
    *"allowed description maxLength maxValue minLength minValue secure readEnvironmentVariable using".split(),
}


def read(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def without_text(source: str) -> str:
    """The source without comments and without what stands in strings, except what is put into them by ${…}."""
    out, at, depth = [], 0, []
    while at < len(source):
        if not depth or depth[-1] != "text":
            # A directive to the compiler, as well.
            if source.startswith(("//", "#"), at):
                at = source.find("\n", at) if "\n" in source[at:] else len(source)
            elif source[at] == "'":
                depth.append("text")
                out.append(" 0 ")
                at += 1
            elif source[at] == "{" and depth:
                depth.append("{")
                out.append("{")
                at += 1
            elif source[at] == "}" and depth:
                depth.pop()
                out.append(" ")
                at += 1
            else:
                out.append(source[at])
                at += 1
        elif source[at] == "\\":
            at += 2
        elif source.startswith("${", at):
            depth.append("{")
            out.append(" ")
            at += 2
        else:
            if source[at] == "'":
                depth.pop()
            at += 1
    return "".join(out)


class File:
    """One Bicep file, parsed."""

    def __init__(self, path: Path):
        self.path = path
        self.name = path.relative_to(ROOT).as_posix()
        self.source = path.read_text(encoding="utf-8")
        self.parsed = BicepParser().parse(text=self.source)

    def of(self, kind: str) -> dict:
        return self.parsed.get(kind, {})

    def config(self, kind: str, name: str) -> dict:
        """What a resource or module is given, also where it is made in a loop or on a condition."""
        config = self.of(kind)[name]["config"]
        return config["config"] if "config" in config else config

    def mistakes(self) -> list[str]:
        told = []
        for name, param in self.of("parameters").items():
            if not any(decorator["type"] == "description" and decorator["argument"] for decorator in param["decorators"]):
                told.append(f"{self.name}: the parameter {name} has no description")
        code = without_text(self.source)
        loops = re.findall(r"\bfor (?:\((\w+), (\w+)\)|(\w+)) in", code)
        declared = {name for kind in ("parameters", "variables", "resources", "modules") for name in self.of(kind)}
        local = {name for loop in loops for name in loop if name}
        # A name behind a dot belongs to what stands before it; one before a colon is a key, unless it chooses.
        used = [(hit[0], hit.start()) for hit in re.finditer(r"(?<![\w.@])[A-Za-z_]\w*", code)]
        keys = {hit.start(1) for hit in re.finditer(r"(?m)^\s*([A-Za-z_]\w*):", code)}
        heads = {hit.start(1) for hit in re.finditer(r"(?m)^(?:param|var|resource|module|output) (\w+)", code)}
        names = [name for name, at in used if at not in keys and at not in heads]
        for name in sorted(set(names) - declared - local - LANGUAGE):
            told.append(f"{self.name}: nothing is declared as {name}")
        for name in sorted((set(self.of("parameters")) | set(self.of("variables"))) - set(names)):
            told.append(f"{self.name}: {name} is declared and never used")
        return told

    def module_mistakes(self, files: dict[Path, "File"]) -> list[str]:
        told = []
        for name, module in self.of("modules").items():
            path = (self.path.parent / module["detail"]["path"]).resolve()
            if path not in files:
                told.append(f"{self.name}: the module {name} is {module['detail']['path']}, which is not there or does not parse")
                continue
            other = files[path]
            given = set(self.config("modules", name).get("params", {}))
            has = other.of("parameters")
            told += [f"{self.name}: the module {name} has no parameter {one}" for one in sorted(given - set(has))]
            needed = {one for one, param in has.items() if param.get("default") is None and not re.search(rf"(?m)^param {one} \w+ =", other.source)}
            told += [f"{self.name}: the module {name} needs {one}" for one in sorted(needed - given)]
            read_here = set(re.findall(rf"\b{name}\.outputs\.(\w+)", self.source))
            told += [f"{self.name}: the module {name} has no output {one}" for one in sorted(read_here - set(other.of("outputs")))]
        return told


def parsed() -> tuple[dict[Path, File], list[str]]:
    files, told = {}, []
    for path in sorted([*INFRA.rglob("*.bicep"), *(ROOT / "policy").rglob("*.bicep")]):
        try:
            files[path.resolve()] = File(path)
        except Exception as why:  # Whatever the parser raises, the file is not one.
            told.append(f"{path.relative_to(ROOT)} does not parse: {str(why).splitlines()[0]}")
    return files, told


def parameter_file(files: dict[Path, File]) -> list[str]:
    """main.bicepparam, which the parser does not know: as a Bicep file it has variables in place of what it sets."""
    source = read("infra/main.bicepparam")
    told = []
    if not re.match(r"using './main.bicep'\n", source):
        return ["infra/main.bicepparam does not begin with using './main.bicep'"]
    body = re.sub(r"(?m)^param (\w+) =", r"var set_\1 =", source.split("\n", 1)[1]).replace("readEnvironmentVariable(", "concat(")
    try:
        BicepParser().parse(text=body)
    except Exception as why:
        told.append(f"infra/main.bicepparam does not parse: {str(why).splitlines()[0]}")
    has = set(files[INFRA / "main.bicep"].of("parameters"))
    sets = set(re.findall(r"(?m)^param (\w+) =", source))
    told += [f"infra/main.bicepparam leaves {one} to its default" for one in sorted(has - sets)]
    told += [f"infra/main.bicepparam sets {one}, which main.bicep has not" for one in sorted(sets - has)]
    read_here = set(re.findall(r"readEnvironmentVariable\('(PORTCULLIS_\w+)'", source))
    scripts = set(re.findall(r"\bPORTCULLIS_(?:REGISTRATION|GRAPH|EVENT_SUBSCRIPTIONS)\b", read("azure.yaml") + "".join(read(f"infra/{name}.sh") for name in ("events", "registration"))))
    documented = set(re.findall(r"(?m)^\| `(PORTCULLIS_\w+)` \|", read("docs/deploying.md")))
    told += [f"docs/deploying.md has no row for {one}" for one in sorted((read_here | scripts) - documented)]
    told += [f"docs/deploying.md has a row for {one}, which nothing reads" for one in sorted(documented - read_here - scripts)]
    return told


def explained() -> tuple[int, list[str]]:
    """How many findings checkov has, and those that are not explained, or explained and not found."""
    found, told, looked = [], [], 0
    for folder in ("infra", "policy"):
        # Without --skip-download it asks its maker's server for texts.
        command = [BIN / "checkov", "--directory", folder, "--framework", "bicep", "--skip-download", "--quiet", "--compact", "--output", "json"]
        out = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, check=False)
        # A check that broke off found nothing, and says so only here.
        told += [f"checkov: {line}" for line in out.stderr.splitlines() if "Failed to run check" in line]
        try:
            report = json.loads(out.stdout)
        except ValueError:
            return 0, [f"checkov said nothing that can be read on {folder}: {out.stderr[-500:]}"]
        # It answers with the numbers alone where it knows no check for anything in a folder.
        if "results" not in report:
            continue
        looked += report["summary"]["resource_count"]
        if report["summary"]["parsing_errors"]:
            told.append(f"checkov could not parse {report['summary']['parsing_errors']} files in {folder}")
        for one in report["results"]["failed_checks"]:
            found.append((one["check_id"], f"{one['file_path'].lstrip('/')} {one['resource'].rsplit('.', 1)[1]}", one["check_name"]))
    if not looked:
        told.append("checkov looked at nothing")
    known = {}
    for entry in yaml.safe_load(read("infra/checkov.yaml")):
        if not entry.get("why"):
            told.append(f"infra/checkov.yaml gives no reason for {entry['check']}")
        known.update({(entry["check"], place): entry for place in entry["at"]})
    told += [f"checkov: {check} on {place}: {what}; mend it, or say in infra/checkov.yaml why it stands" for check, place, what in found if (check, place) not in known]
    told += [f"infra/checkov.yaml explains {check} on {place}, which is not found" for check, place in known if (check, place) not in {one[:2] for one in found}]
    return len(found), told


def differ(what: str, here: object, there: object) -> list[str]:
    return [] if here == there else [f"{what}: {here} is not {there}"]


def same_everywhere(files: dict[Path, File]) -> list[str]:
    def bicep(name: str) -> File:
        return files[INFRA / name]

    told = []
    # A Rust test holds the example file against the settings that the program reads.
    example = list(json.loads(read("local.settings.example.json"))["Values"])
    program = [name for name in example if name not in ("FUNCTIONS_WORKER_RUNTIME", "AzureWebJobsStorage")]
    deploying = read("docs/deploying.md")
    hosts = re.findall(r"(?m)^\| `(\w+)` \|", deploying.split("| Setting of the host |", 1)[-1].split("\n\n", 1)[0])
    settings = [entry["name"] for entry in bicep("app.bicep").config("resources", "site")["properties"]["siteConfig"]["appSettings"]]
    told += differ("app.bicep's settings are not the program's and then the host's of docs/deploying.md", settings, program + hosts)
    folders = {path.parent.name: json.loads(path.read_text())["bindings"] for path in (ROOT / "functions").glob("*/function.json")}
    queues = {binding["queueName"] for bindings in folders.values() for binding in bindings if binding["type"] == "serviceBusTrigger"}
    told += differ("main.bicep's queues are not those of functions/", set(bicep("main.bicep").of("variables")["queueNames"]["value"]), queues)
    told += differ("docs/deploying.md's queues are not those of functions/", set(re.findall(r"(?m)^\| `(\w+)` \| (?:events and|one message|rows on)", deploying)), queues)
    storage = bicep("storage.bicep")
    defaults = {name: param["default"] for name, param in bicep("main.bicep").of("parameters").items() if "default" in param}
    named = {name: storage.config("resources", name)["name"] for name, one in storage.of("resources").items() if one["type"].endswith("/containers")}
    containers = {name: defaults.get(given, given) for name, given in named.items()}
    values = json.loads(read("local.settings.example.json"))["Values"]
    told += differ("storage.bicep's container of records", containers.get("state"), values["PORTCULLIS_STATE_CONTAINER"])
    told += differ("storage.bicep's container of audit records", containers.get("audit"), values["PORTCULLIS_AUDIT_CONTAINER"])
    told += [f"docs/deploying.md does not tell of the container {name}" for name in containers.values() if f"| `{name}` |" not in deploying]
    topic = bicep("eventgrid-topic.bicep")
    triggered = [name for name, bindings in folders.items() if any(binding["type"] == "eventGridTrigger" for binding in bindings)]
    told += differ("eventgrid-topic.bicep's functions are not those with an Event Grid trigger", re.findall(r"/functions/(\w+)'", topic.source), triggered)
    rust = read("src/functions/jit_activity.rs")
    prefix = re.search(r'const POLICIES: &str = "([^"]+)"', rust)[1]
    taken = {prefix + arm for arm in re.findall(r'Some\("([a-z/]+)"\) => Ok\(Operation::', rust)}
    filtered = {name.lower() for name in re.findall(r"'(Microsoft\.Security/locations/jitNetworkAccessPolicies/[\w/]+)'", topic.source)}
    told += differ("eventgrid-topic.bicep's operations are not those that jit_activity takes", filtered, taken)
    told += differ("docs/deploying.md's operations are not those that jit_activity takes", {name.lower() for name in re.findall(r"(?m)^(Microsoft\.Security/locations/jitNetworkAccessPolicies/\S+)$", deploying)}, taken)
    asked = set(re.findall(r'operation_Name [!=]= "(\w+)"', bicep("alerts.bicep").source))
    told += [f"alerts.bicep asks for a function {name}, which is not there" for name in sorted(asked - set(folders))]
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.rs"))
    logged = set(re.findall(r'\b(?:error|warn|info)!\((?:[^;"]|"[^"]*"(?!\)))*?"([^"]+)"\)', sources))
    told += [f"alerts.bicep waits for the log line `{line}`, which the program does not log" for line in re.findall(r'message has "([^"]+)"', bicep("alerts.bicep").source) if not any(line in one for one in logged)]
    marker = re.search(r'const MARKER: &str = "([^"]+)"', read("src/store.rs"))[1]
    told += differ("marker.sh's marker is not the program's", re.search(r"(?m)^marker=(\S+)$", read("infra/marker.sh"))[1], marker)
    tokens = set(re.findall(r'Role::\w+ => "(\w+)"', read("src/console/token.rs")))
    told += differ("registration.py's app roles are not the program's", set(re.findall(r'(?m)^    "(\w+)": \(\[', read("infra/registration.py"))), tokens)
    return told + duties(files)


def duties(files: dict[Path, File]) -> list[str]:
    told = []
    roles = json.loads(read("infra/roles.json"))

    def allowed(name: str) -> set[str]:
        decorators = files[INFRA / name].of("parameters")["duties"]["decorators"]
        return set(next(decorator["argument"] for decorator in decorators if decorator["type"] == "allowed"))

    shape = {"roleName": str, "description": str, "actions": list}
    for duty, role in roles.items():
        if {name: type(value) for name, value in role.items()} != shape or not role["actions"]:
            told.append(f"infra/roles.json: {duty} is not {', '.join(shape)} with an action in it")
    places = {"roles.bicep": "subscription()", "roles-management-group.bicep": "managementGroup()", "roles-resource-group.bicep": "resourceGroup()"}
    texts = {}
    for name, place in places.items():
        text = files[INFRA / name].source.replace(place, "PLACE")
        text = re.sub(r"targetScope = '\w+'", "", text)
        texts[name] = re.sub(r"\(\$\{[^)]*\)'", "()'", re.sub(r"\(\$\{.*\}\)'", "()'", text))
        # The role for people is none of the app's, that for management groups none of a subscription's, and that for incidents is
        # given at one workspace.
        told += differ(f"{name}'s duties are not those of infra/roles.json", allowed(name), set(roles) - {"people", "incidents"})
    told += differ("main.bicep's duties are not those of infra/roles.json", allowed("main.bicep"), set(roles) - {"people", "incidents", "groups"})
    told += [f"{name} and roles.bicep differ in more than the place" for name, text in texts.items() if text != texts["roles.bicep"]]
    return told


# What must be so wherever such a resource is made: checkov has no check for it, or takes a parameter for an answer.
SHUT = {
    "Microsoft.Storage/storageAccounts": {"allowSharedKeyAccess": False, "allowBlobPublicAccess": False, "minimumTlsVersion": "TLS1_2", "supportsHttpsTrafficOnly": True},
    "Microsoft.Storage/storageAccounts/blobServices/containers": {"publicAccess": "None"},
    "Microsoft.Storage/storageAccounts/blobServices/containers/immutabilityPolicies": {"allowProtectedAppendWrites": False},
    "Microsoft.ServiceBus/namespaces": {"disableLocalAuth": True, "minimumTlsVersion": "1.2"},
    "Microsoft.ServiceBus/namespaces/queues": {"requiresDuplicateDetection": False, "requiresSession": False, "maxDeliveryCount": 10},
    "Microsoft.Insights/components": {"DisableLocalAuth": True},
    "Microsoft.Web/sites": {"httpsOnly": True},
    "Microsoft.Web/sites/basicPublishingCredentialsPolicies": {"allow": False},
}


# Built-in roles, whose ids are the same in every tenant (Azure's list of built-in roles). A digit that is wrong names no role, and
# the deployment fails half-way.
BUILT_IN = {
    "b7e6dc6d-f1e8-4753-8033-0f276bb0955b": "Storage Blob Data Owner",
    "ba92f5b4-2d11-453d-a403-e96b0029c9fe": "Storage Blob Data Contributor",
    "69a216fc-b8fb-44d8-bc22-1f3c2cd27a39": "Azure Service Bus Data Sender",
    "4f6d3b9b-027b-4f4c-9142-0e5a2a2247e0": "Azure Service Bus Data Receiver",
    "3913510d-42f4-4e42-8a64-420c390055eb": "Monitoring Metrics Publisher",
}


def built_in(files: dict[Path, File]) -> list[str]:
    named = [(file.name, one) for file in files.values() for one in re.findall(r"roleDefinitions', '([0-9a-f-]{36})'", file.source)]
    told = [f"{name} names a role {one}, which is none of Azure's that check_bicep.py knows" for name, one in named if one not in BUILT_IN]
    return told + [f"nothing is given the role {role} any more: take it out of check_bicep.py" for one, role in BUILT_IN.items() if one not in dict(map(reversed, named))]


def written_again(files: dict[Path, File]) -> list[str]:
    """Saved searches that the second deployment could not write: without an etag Azure answers 409."""
    searches = [(file, name) for file in files.values() for name, one in file.of("resources").items() if one["type"].endswith("/savedSearches")]
    told = [] if searches else ["nothing saves a search any more: take this out of check_bicep.py"]
    return told + [f"{file.name}: {name} needs the etag '*'" for file, name in searches if file.config("resources", name)["properties"].get("etag") != "*"]


def shut(files: dict[Path, File]) -> list[str]:
    told, seen = [], set()
    for file in files.values():
        for name, resource in file.of("resources").items():
            if resource["existing"] or resource["type"] not in SHUT:
                continue
            seen.add(resource["type"])
            properties = file.config("resources", name)["properties"]
            told += [f"{file.name}: {name} has {key} {properties.get(key)}, which must be {value}" for key, value in SHUT[resource["type"]].items() if properties.get(key) != value]
    return told + [f"nothing of the type {one} is made any more: take it out of check_bicep.py" for one in sorted(set(SHUT) - seen)]


ALIAS = "Microsoft.Security/locations/jitNetworkAccessPolicies/virtualMachines[*].ports[*]"


def holds(rule: dict, policy: dict, here: dict, parameters: dict) -> bool:
    """Whether a condition of Azure Policy holds, as far as ours goes: `here` has the entries that the counts around it are at."""

    def value(field: str) -> object:
        if field == "type":
            return policy["type"]
        if field in here:
            return here[field]
        base, _, member = field.rpartition(".")
        return here[base].get(member)

    if "allOf" in rule:
        return all(holds(one, policy, here, parameters) for one in rule["allOf"])
    if "anyOf" in rule:
        return any(holds(one, policy, here, parameters) for one in rule["anyOf"])
    if "count" in rule:
        field = rule["count"]["field"]
        if field == ALIAS:
            entries = [port for machine in policy["properties"]["virtualMachines"] for port in machine["ports"]]
        else:
            entries = value(field.removesuffix("[*]")) or []
        return sum(holds(rule["count"]["where"], policy, {**here, field: entry}, parameters) for entry in entries) > rule["greater"]
    given = value(rule["field"])
    if "equals" in rule:
        return str(given).lower() == rule["equals"].lower()
    operator = "in" if "in" in rule else "notIn"
    name = re.fullmatch(r"\[parameters\('(\w+)'\)\]", rule[operator])[1]
    # Azure Policy compares texts without regard to letter case.
    is_in = given is not None and str(given).lower() in [one.lower() for one in parameters[name]]
    return is_in if operator == "in" else not is_in


def jit_policies() -> list[str]:
    definition = json.loads(read("policy/jit-policies.json"))
    rule = definition["policyRule"]["if"]
    parameters = {name: parameter["defaultValue"] for name, parameter in definition["parameters"].items()}

    def found(*ports: dict, kind: str = "Microsoft.Security/locations/jitNetworkAccessPolicies") -> bool:
        policy = {"type": kind, "properties": {"virtualMachines": [{"id": "a", "ports": []}, {"id": "b", "ports": list(ports)}]}}
        return holds(rule, policy, {}, parameters)

    fine = {"number": 22, "allowedSourceAddressPrefix": "203.0.113.0/24", "maxRequestAccessDuration": "PT3H"}
    many = {"number": 22, "allowedSourceAddressPrefixes": ["203.0.113.4", "198.51.100.0/24"], "maxRequestAccessDuration": "PT8H"}
    cases = [
        ("a policy that names its source is left", not found(fine)),
        ("one with several sources, too", not found(many, fine)),
        ("any other type is left", not found({**fine, "allowedSourceAddressPrefix": "*"}, kind="Microsoft.Compute/virtualMachines")),
        *((f"{source} is found", found(fine, {**fine, "allowedSourceAddressPrefix": source})) for source in ("*", "any", "internet", "0.0.0.0/0", "::/0")),
        *((f"{source} among others is found", found({**many, "allowedSourceAddressPrefixes": ["10.0.0.1", source]})) for source in ("*", "Internet", "0.0.0.0/0", "::/0")),
        ("a long duration is found", found({**fine, "maxRequestAccessDuration": "PT9H"})),
        ("one that cannot be read is found", found({**fine, "maxRequestAccessDuration": "PT1H30M"})),
    ]
    return [f"policy/jit-policies.json: it does not hold that {what}" for what, is_so in cases if not is_so]


def parts_of_yaml(name: str) -> list[tuple[str, str]]:
    """The shell in a YAML file: everything under `run`, with its place."""

    def walk(node: object, place: str) -> list[tuple[str, str]]:
        if isinstance(node, dict):
            own = [(place, node["run"])] if isinstance(node.get("run"), str) else []
            return own + [part for key, value in node.items() for part in walk(value, f"{place}.{key}")]
        if isinstance(node, list):
            return [part for n, value in enumerate(node) for part in walk(value, f"{place}[{n}]")]
        return []

    return walk(yaml.safe_load(read(name)), name)


def shellcheck(place: str, *arguments: object, text: str | None = None) -> list[str]:
    out = subprocess.run([BIN / "shellcheck", *arguments], cwd=ROOT, text=True, input=text, capture_output=True, check=False)
    return [] if out.returncode == 0 else [f"{place}: shellcheck: {out.stdout}{out.stderr}".rstrip()]


def texts() -> tuple[dict[str, int], list[str]]:
    told, count = [], {"scripts": 0, "JSON": 0, "YAML": 0}
    for script in sorted(INFRA.glob("*.sh")):
        count["scripts"] += 1
        name = script.relative_to(ROOT).as_posix()
        out = subprocess.run(["bash", "-n", script], text=True, capture_output=True, check=False)
        told += [f"{name}: {out.stderr.rstrip()}"] if out.returncode else []
        told += shellcheck(name, "--external-sources", script)
        if script.name != "azure.sh" and "set -euo pipefail" not in script.read_text(encoding="utf-8"):
            told.append(f"{name} does not stop at what fails: set -euo pipefail")
    for path in sorted([*INFRA.rglob("*.json"), *(ROOT / "policy").rglob("*.json"), *(ROOT / "functions").rglob("*.json"), ROOT / "host.json"]):
        count["JSON"] += 1
        try:
            json.loads(path.read_text(encoding="utf-8"))
        except ValueError as why:
            told.append(f"{path.relative_to(ROOT)}: {why}")
    rules = "{extends: default, rules: {line-length: {max: 160}, document-start: disable, truthy: {check-keys: false}, braces: disable, brackets: disable, comments: {min-spaces-from-content: 1}}}"
    for path in sorted([ROOT / "azure.yaml", INFRA / "checkov.yaml", *(ROOT / ".github").rglob("*.yml")]):
        count["YAML"] += 1
        name = path.relative_to(ROOT).as_posix()
        out = subprocess.run([BIN / "yamllint", "--strict", "--format", "parsable", "--config-data", rules, path], text=True, capture_output=True, check=False)
        told += [f"yamllint: {line}" for line in (out.stdout + out.stderr).splitlines()]
        if out.returncode:
            continue
        for place, shell in parts_of_yaml(name) if name != "infra/checkov.yaml" else []:
            # GitHub fills ${{ … }} in before the shell sees it; azd's hooks are run by sh.
            dialect = "sh" if name == "azure.yaml" else "bash"
            told += shellcheck(place, "--shell", dialect, "-", text=re.sub(r"\$\{\{.*?\}\}", "x", shell))
            told += [f"{place} runs {one}, which is not there" for one in re.findall(r"\binfra/\S+\.sh\b", shell) if not (ROOT / one).is_file()]
    return count, told


def workflow() -> list[str]:
    told = []
    for path in sorted((ROOT / ".github" / "workflows").glob("*.yml")):
        name = path.relative_to(ROOT).as_posix()
        source = path.read_text(encoding="utf-8")
        content = yaml.safe_load(source)
        told += [f"{name}: {one} is not pinned to a commit" for one in re.findall(r"uses: (\S+)", source) if not re.search(r"@[0-9a-f]{40}$", one)]
        if content.get("permissions") != {}:
            told.append(f"{name}: what every job may do is not empty")
        for job, body in content["jobs"].items():
            rights = body.get("permissions")
            if not rights or set(rights.items()) - {("contents", "read"), ("id-token", "write")}:
                told.append(f"{name}: {job} may do more than read, and be known by Azure")
            if ("id-token" in (rights or {})) != ("environment" in body):
                told.append(f"{name}: {job} is known by Azure without an environment that guards it, or the other way round")
    return told or ([] if list((ROOT / ".github" / "workflows").glob("*.yml")) else ["there is no workflow"])


def main() -> int:
    count, told = texts()
    files, wrong = parsed()
    told += wrong
    for file in files.values():
        told += file.mistakes() + file.module_mistakes(files)
    # What does not parse cannot be held against anything.
    if not told:
        told += parameter_file(files) + same_everywhere(files) + shut(files) + written_again(files) + built_in(files) + jit_policies() + workflow()
    findings, unexplained = explained()
    cases, broken = check_scripts.failures()
    told += unexplained + [f"scripts: it does not hold that {what}" for what in broken]
    for line in told:
        print(line, file=sys.stderr)
    if not files or not findings or not cases or not all(count.values()):
        print("nothing was checked of one kind: see the numbers", file=sys.stderr)
        told.append("")
    print(f"deployment: {len(files)} Bicep files, {findings} findings of checkov of which {len([one for one in unexplained if one.startswith('checkov: CKV')])} unexplained, "
          + ", ".join(f"{number} {kind}" for kind, number in count.items()) + f", {cases} cases of scripts, {len(told)} mistakes")
    return 1 if told else 0


if __name__ == "__main__":
    sys.exit(main())
