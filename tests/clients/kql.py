"""Every query of infra/sentinel really runs, on rows of tests/sentinel: a rule finds what it must, no near miss, a late row, and
nothing twice. A line of a query that no sample needs is a mistake, too.

The engine is DuckDB, by a translator of KQL: it refuses what it does not know.

Usage: kql.py [ROOT-OF-THE-REPOSITORY]
"""

import json
import re
import sys
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import cache
from multiprocessing import get_context
from pathlib import Path

import duckdb
import duckdb_kql
import duckdb_kql.engine
import yaml

root = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).resolve().parents[2])
sentinel, samples = root / "infra/sentinel", root / "tests/sentinel"

TABLE = "Portcullis_CL"
# The engine keeps no time of ingestion: a column of the samples stands for it.
INGESTED = "SampleIngestedAt"
ENGINE_TYPES = {
    "string": "VARCHAR",
    "int": "INTEGER",
    "long": "BIGINT",
    "real": "DOUBLE",
    "boolean": "BOOLEAN",
    "datetime": "TIMESTAMP",
    "dynamic": "JSON",
}
# Sentinel runs a scheduled rule five minutes after its time, with now() at its time, on rows up to its time.
RUN_DELAY = timedelta(minutes=5)

VM = "/subscriptions/5a4db0c5-0001-4000-8000-000000000001/resourceGroups/rg/providers/Microsoft.Compute/virtualMachines/web-1"
# A full row of an opening that somebody made around Portcullis, of a kind that no query looks for.
DEFAULT = {
    "EventCount": 1,
    "EventType": "Read",
    "EventSubType": "nothing",
    "EventResult": "NA",
    "EventSeverity": "Medium",
    "EventMessage": "What happened: why",
    "EventProduct": "Portcullis",
    "EventVendor": "Portcullis",
    "EventProductVersion": "0.1.0",
    "EventSchema": "AuditEvent",
    "EventSchemaVersion": "0.1.0",
    "Dvc": "portcullis",
    "Operation": "Finding",
    "Object": VM.replace("Microsoft.Compute/virtualMachines/web-1", "Microsoft.Network/networkSecurityGroups/g/securityRules/jit-1"),
    "ObjectType": "Cloud Resource",
    "ActorUsername": "portcullis",
    "ActorUsernameType": "Simple",
    "ActorUserType": "Application",
    "ActorScopeId": "5a4db0c5-0002-4000-8000-000000000002",
    "ActingAppName": "Portcullis",
    "TargetHostname": "web-1",
    "TargetDvcId": VM,
    "TargetDvcIdType": "AzureResourceId",
    "TargetDvcScopeId": "5a4db0c5-0001-4000-8000-000000000001",
    "TargetPortNumber": 8443,
    "Code": "nothing",
    "Sources": "198.51.100.7",
    "Attempt": None,
    "GrantId": "",
    "RuleName": "",
    "GrantedTo": "",
    "GrantedToId": "",
    "Decision": None,
    "OpenedBy": "ada@contoso.com",
    "Asked": [],
    "Claims": [],
}

columns = {column["name"]: column["type"] for column in json.loads((sentinel / "table.json").read_text())}
TIMES = ["TimeGenerated", "EventStartTime", "EventEndTime"]
COPIES = {"EventUid": "AuditId", "EventResultDetails": "Code"}


# The words of kinds and codes are the app's: a rule about a word that nobody writes would never fire.
SPOKEN = re.compile(r"(?:EventSubType|Code)\s*(?:==|!=|!?in)\s*(\([^)]*\)|\"[^\"]*\")")
sources = [source for folder in ("crates/domain/src", "src/functions") for source in (root / folder).rglob("*.rs")]
words = {word for source in sources for word in re.findall(r'"([a-z][a-z-]*)"', source.read_text())}
sentences = "\n".join(source.read_text() for source in sources).lower()


class Mistake(Exception):
    """Something that a person has to mend."""


def duration(text):
    """`2m`, `36h` or an ISO 8601 duration of days, hours and minutes."""
    short = re.fullmatch(r"(\d+)([dhms])", str(text))
    if short:
        return timedelta(**{{"d": "days", "h": "hours", "m": "minutes", "s": "seconds"}[short[2]]: int(short[1])})
    iso = re.fullmatch(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?)?", str(text))
    if not iso:
        raise Mistake(f"{text} is no duration")
    days, hours, minutes = (int(part or 0) for part in iso.groups())
    return timedelta(days=days, hours=hours, minutes=minutes)


def fits(value, kind):
    if kind == "dynamic" or (value is None and kind in ("int", "long", "real")):
        return True
    return type(value) is {"string": str, "int": int, "long": int, "real": float, "boolean": bool}.get(kind)


def full(given, number, now):
    """A full row made of what a sample gives of it, with the time at which it arrived."""
    given = dict(given)
    at = now - duration(given.pop("ago", "2m"))
    arrived = at + duration(given.pop("arrives", "1m"))
    for name, value in given.items():
        if name not in columns or name in [*TIMES, *COPIES]:
            raise Mistake(f"a sample cannot give {name}")
        if not fits(value, columns[name]):
            raise Mistake(f"{name} is {value!r}, and its type is {columns[name]}")
    row = {"AuditId": f"audit-{number}", **DEFAULT, **given}
    row |= dict.fromkeys(TIMES, at) | {copy: row[of] for copy, of in COPIES.items()}
    if set(row) != set(columns):
        raise Mistake(f"the default row and table.json differ in {', '.join(sorted(set(row) ^ set(columns)))}")
    return row | {INGESTED: arrived}


connection = duckdb_kql.connect()
# A handful of rows: sharing them out among cores takes longer than to read them.
connection.execute("SET threads = 1")
shape = ", ".join(f'"{name}" {ENGINE_TYPES[kind]}' for name, kind in [*columns.items(), (INGESTED, "datetime")])
connection.execute(f"CREATE TABLE {TABLE} ({shape})")


@cache
def translated(kql, now):
    """A query in the engine's own language; to translate takes longer than to run."""
    kql = kql.replace("ingestion_time()", INGESTED)
    return duckdb_kql.to_sql(kql, schema=duckdb_kql.engine.schema(connection), query_now=now)


def run(kql, now, rows, period):
    """What a query finds at a time among those rows that it can see then, each as a dictionary."""

    def seen(row):
        return now - period < row["TimeGenerated"] <= now and row[INGESTED] <= now + RUN_DELAY

    def stored(name, value):
        if isinstance(value, datetime):
            return value.replace(tzinfo=None)
        return json.dumps(value) if columns.get(name) == "dynamic" and value is not None else value

    connection.execute(f"DELETE FROM {TABLE}")
    visible = [[stored(name, row[name]) for name in [*columns, INGESTED]] for row in rows if seen(row)]
    if visible:
        connection.executemany(f"INSERT INTO {TABLE} VALUES ({', '.join('?' * (len(columns) + 1))})", visible)
    sql = translated(kql, now)
    result = connection.execute(str(sql), sql.parameters)
    names = [column[0] for column in result.description]
    return [dict(zip(names, values, strict=True)) for values in result.fetchall()]


def mistakes_of(query, kql):
    """What is wrong with a query on its samples, each in a sentence. What is likeliest comes first."""
    now, period = query["now"], query["period"]
    cases = [
        (
            case,
            [full({**query["row"], **given}, number, now) for number, given in enumerate(case["rows"])],
            case.get("count", 1) if kind == "find" else 0,
        )
        for kind in ("near", "find")
        for case in query[kind]
    ]

    def differs(case, how, at, rows, expected):
        found = run(kql, at, rows, period)
        if len(found) != expected:
            yield f"{case['what']}: {how} {len(found)} rows are found, and not {expected}"

    is_wrong = False
    for case, rows, expected in cases:
        for mistake in differs(case, "on time,", now, rows, expected):
            is_wrong = True
            yield mistake
    if is_wrong:
        return
    for case, rows, expected in cases:
        if case.get("gives"):
            found = run(kql, now, rows, period)
            for name, value in case["gives"].items():
                value = value.astimezone(UTC).replace(tzinfo=None) if isinstance(value, datetime) else value
                told = [row.get(name, "no such column") for row in found]
                if value not in told:
                    yield f"{case['what']}: {name} is {told}, and not {value!r}"
        # A row that was sent twice has arrived twice.
        twice = [copy for row in rows for copy in (row, row, row | {INGESTED: row[INGESTED] + timedelta(minutes=4)})]
        yield from differs(case, "sent twice,", now, twice, expected)
        if query.get("tells_again") and expected:
            yield from differs(case, "four hours and three quarters later,", now + timedelta(hours=4, minutes=45), rows, 0)
            yield from differs(case, "six hours later,", now + timedelta(hours=6), rows, expected)
        # Ids of what is said of the service are alike where two installations share a workspace.
        if query["told_on_arrival"]:
            both = [copy for row in rows for copy in (row, row | {"Dvc": "portcullis-test"})]
            yield from differs(case, "of two installations,", now, both, 2 * expected)
            yield from differs(case, "in the run after,", now + query["frequency"], twice, 0)
            late = [row | {name: row[name] - timedelta(days=1) for name in TIMES} for row in rows]
            yield from differs(case, "a day late,", now, late, expected)


# The end of a line that narrows what is read, and changes nothing that is found.
FOR_SPEED = "// for speed"


def without_a_line(kql):
    """The query without each of its conditions in turn, beside what was left out."""
    lines = kql.split("\n")
    for number, line in enumerate(lines):
        if re.match(r"\s*\| where ", line):
            # What closes something that an earlier line opened has to stay.
            tail = ")" * (line.count(")") - line.count("(")) + (";" if line.rstrip().endswith(";") else "")
            lines_without = [*lines[:number], tail, *lines[number + 1 :]]
            yield line.strip(), "\n".join(lines_without)


def load(name, **settings):
    file = samples / f"{name}.yaml"
    if not file.is_file():
        raise Mistake(f"there is no tests/sentinel/{name}.yaml")
    given = yaml.safe_load(file.read_text())
    unknown = set(given) - {"now", "row", "find", "near"}
    if unknown:
        raise Mistake(f"tests/sentinel/{name}.yaml: {', '.join(sorted(unknown))} is nothing that a sample has")
    query = {"row": {}, **given, **settings}
    if "frequency" in query and not (query["told_on_arrival"] or query["tells_again"]):
        raise Mistake("a rule that tells neither what arrived nor for some time out of six hours tells the same in every run")
    if query.get("suppressed"):
        raise Mistake("what one row silences is silent for all others: leave suppression off")
    for kind in ("find", "near"):
        if not query.get(kind):
            raise Mistake(f"tests/sentinel/{name}.yaml: it needs at least one case to {kind}")
        for case in query[kind]:
            if not {"what", "rows"} <= set(case) <= {"what", "rows", "count", "gives"}:
                raise Mistake(f"tests/sentinel/{name}.yaml: a case has what, rows, and maybe count and gives, and not {', '.join(case)}")
    if query["now"].tzinfo is None:
        raise Mistake(f"tests/sentinel/{name}.yaml: now needs its Z")
    query["now"] = query["now"].astimezone(UTC)
    return query


def check_words(query, kql):
    """Refuses kinds and codes that no source of the app has, in a query and in its samples."""
    used = {word for list_or_word in SPOKEN.findall(kql) for word in re.findall(r'"([^"]*)"', list_or_word)}
    rows = [{**query["row"], **row} for kind in ("find", "near") for case in query[kind] for row in case["rows"]]
    used |= {row[name] for row in rows for name in ("EventSubType", "Code") if name in row}
    said = {begins.lower() for begins in re.findall(r'startswith "([^"]*)"', kql)}
    for begins in sorted(begins for begins in said if begins not in sentences):
        raise Mistake(f"no source of the app says {begins!r}")
    for word in sorted(used - words, key=str):
        raise Mistake(f"no source of the app has the kind or code {word!r}")


def queries():
    """Every query by the name of its samples, with what it takes to run it."""
    for file in sorted((sentinel / "analytics").glob("*.yaml")):
        rule = yaml.safe_load(file.read_text())
        times = {"period": duration(rule["queryPeriod"]), "frequency": duration(rule["queryFrequency"])}
        arrival = {
            "told_on_arrival": "ingestion_time()" in rule["query"],
            "tells_again": "% again < told" in rule["query"],
            "suppressed": rule["suppressionEnabled"],
        }
        yield "rule", file.stem, rule["query"], {**times, **arrival}
    # Sentinel limits neither to a time: each has its own, or that of the workbook.
    for file in sorted((sentinel / "hunting").glob("*.yaml")):
        yield "hunt", file.stem, yaml.safe_load(file.read_text())["query"], {"period": timedelta(days=365), "told_on_arrival": False}
    items = json.loads((sentinel / "workbook.json").read_text())["items"]
    ranges = [one["value"]["durationMs"] for item in items if item["type"] == 9 for one in item["content"]["parameters"] if one["type"] == 4]
    for item in items:
        if item["type"] == 3:
            settings = {"period": timedelta(milliseconds=ranges[0]), "told_on_arrival": False}
            yield "chart", f"workbook-{item['name']}", item["content"]["query"], settings


def judged(name, kql, settings):
    """What is wrong with a query, and what it does in a sentence."""
    try:
        query = load(name, **settings)
        check_words(query, kql)
        mistakes = list(mistakes_of(query, kql))
        needless = 0
        if not mistakes:
            for line, shorter in without_a_line(kql):
                needless += 1
                is_needed = any(True for _ in mistakes_of(query, shorter))
                if is_needed == line.endswith(FOR_SPEED):
                    mistakes.append(f"{'a' if is_needed else 'no'} sample needs the line `{line}`")
        return mistakes, f"finds {len(query['find'])}, spares {len(query['near'])}, and needs each of its {needless} conditions"
    except (Mistake, duckdb_kql.KqlError, duckdb.Error) as mistake:
        return [str(mistake)], ""


def main():
    counts, failed, known = {"rule": 0, "hunt": 0, "chart": 0}, 0, set()
    # Each process has an engine of its own: one cannot be taken along into another.
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as processes:
        judging = [(kind, name, processes.submit(judged, name, kql, settings)) for kind, name, kql, settings in queries()]
    for kind, name, judgement in judging:
        counts[kind] += 1
        known.add(name)
        mistakes, told = judgement.result()
        for mistake in mistakes:
            print(f"{kind} {name}: {mistake}", file=sys.stderr)
        failed += bool(mistakes)
        if not mistakes:
            print(f"{kind} {name}: {told}")
    for file in sorted(samples.glob("*")):
        if file.stem not in known or file.suffix != ".yaml":
            failed += 1
            print(f"tests/sentinel/{file.name} is of no query", file=sys.stderr)
    for kind, count in counts.items():
        if count == 0:
            failed += 1
            print(f"there is no {kind}", file=sys.stderr)
    told = ", ".join(f"{count} {kind}s" for kind, count in counts.items())
    print(f"kql.py: {sum(counts.values())} queries run ({told}), {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
