// Microsoft's own parser of KQL reads every query of infra/sentinel against the table as table.json declares it, and what Sentinel is
// told beside the queries is held against the columns that they give. It reads the queries of the alerts and of the documentation,
// too: against the tables of Application Insights as insights.json declares them.
//
// Usage: kql.mjs [ROOT-OF-THE-REPOSITORY]

import { readFile, readdir } from "node:fs/promises";
import { createRequire } from "node:module";
import { join, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { LineCounter, parseDocument, isMap, isScalar } from "yaml";

const require = createRequire(import.meta.url);
// The parser is a script for browsers: it puts itself into the global object.
require("@kusto/language-service-next/bridge.min.js");
require("@kusto/language-service-next/Kusto.Language.Bridge.min.js");
const { KustoCode, GlobalState } = Kusto.Language;
const { ColumnSymbol, TableSymbol, DatabaseSymbol, ScalarTypes } = Kusto.Language.Symbols;
const { SyntaxKind } = Kusto.Language.Syntax;

const root = resolve(process.argv[2] ?? fileURLToPath(new URL("../..", import.meta.url)));
const sentinel = join(root, "infra/sentinel");
const TABLE = "Portcullis_CL";
const COLUMN_TYPES = ["string", "int", "long", "real", "boolean", "datetime", "dynamic"];

const mistakes = [];
const wrong = (file, line, message) => mistakes.push(`${relative(root, file)}:${line}: ${message}`);

/** A list of .NET as an array. */
const listed = (list) => Array.from({ length: list.Count }, (_, n) => list.getItem(n));

/** What queries see that may read these tables: for each its columns with their types. */
function database(tables) {
  const symbols = Object.entries(tables).map(([table, columns]) => {
    const symbols = columns.map(({ name, type }) => {
      const symbol = COLUMN_TYPES.includes(type) && ScalarTypes.GetSymbol(type === "boolean" ? "bool" : type);
      if (!symbol) throw new Error(`column ${name} of ${table} has the type ${type}, which no data collection rule knows`);
      return new ColumnSymbol(name, symbol, null, null, null, null);
    });
    return new TableSymbol.$ctor4(table, symbols);
  });
  return GlobalState.Default.WithDatabase(new DatabaseSymbol.ctor("workspace", symbols));
}

/** The tables of Application Insights, as queries of a component name them. */
async function component() {
  const { every, tables } = JSON.parse(await readFile(join(root, "tests/clients/insights.json"), "utf8"));
  const columns = (own) => Object.entries({ ...every, ...own }).map(([name, type]) => ({ name, type }));
  return Object.fromEntries(Object.entries(tables).map(([table, own]) => [table, columns(own)]));
}

// The parser lets the equality of any two types pass, which the service refuses.
const EQUALITIES = [SyntaxKind.EqualExpression, SyntaxKind.NotEqualExpression];
const LISTS = [SyntaxKind.InExpression, SyntaxKind.NotInExpression];
const NUMBERS = ["int", "long", "real", "decimal"];
const family = (type) => (NUMBERS.includes(type) ? "number" : type);
const ANYTHING = ["dynamic", "unknown", "error", undefined, ""];

/** Each place where values of types are compared that never are equal. */
function unequal(node) {
  const children = Array.from({ length: node.ChildCount }, (_, n) => node.GetChild(n)).filter((child) => child?.ChildCount > 0);
  const found = children.flatMap(unequal);
  const left = node.Left?.ResultType?.Name;
  let rights = [];
  if (EQUALITIES.includes(node.Kind)) rights = [node.Right];
  if (LISTS.includes(node.Kind)) rights = listed(node.Right.Expressions).map((element) => element.Element$1 ?? element.Element);
  for (const right of rights) {
    const type = right.ResultType?.Name;
    if ([left, type].some((one) => ANYTHING.includes(one)) || family(left) === family(type)) continue;
    found.push({ Start: right.TextStart, Code: "types", Message: `${left} is compared with ${type}, which the service refuses` });
  }
  return found;
}

/** What there is against a query, each with its line from 0, and the columns that the query gives. */
function read(query, globals) {
  const code = KustoCode.ParseAndAnalyze(query, globals);
  const complaints = [...listed(code.GetDiagnostics()), ...unequal(code.Syntax)]
    .filter((one) => one.Severity !== "Suggestion" && one.Severity !== "Information")
    .map((one) => ({ line: query.slice(0, one.Start).split("\n").length - 1, message: `${one.Code}: ${one.Message}` }));
  const columns = code.ResultType?.Columns ? listed(code.ResultType.Columns).map((column) => column.Name) : [];
  return { complaints, columns };
}

/** Complains about a query that begins in this line of its file, and gives its columns. */
function check(file, firstLine, query, globals) {
  const { complaints, columns } = read(query, globals);
  for (const { line, message } of complaints) wrong(file, firstLine + line, message);
  // A query that names no table of ours finds nothing, whatever the parser says of it.
  if (!query.includes(TABLE)) wrong(file, firstLine, `the query does not read ${TABLE}`);
  if (complaints.length === 0 && columns.length === 0) wrong(file, firstLine, "the query gives no columns");
  return columns;
}

/** A YAML file, and the lines of its keys. */
async function yaml(file) {
  const counter = new LineCounter();
  const document = parseDocument(await readFile(file, "utf8"), { lineCounter: counter, uniqueKeys: true });
  for (const error of document.errors) wrong(file, error.linePos?.[0].line ?? 1, error.message);
  const line = (key) => {
    const pair = isMap(document.contents) && document.contents.items.find((item) => isScalar(item.key) && item.key.value === key);
    return pair ? counter.linePos(pair.key.range[0]).line : 1;
  };
  return { value: document.toJS() ?? {}, line };
}

async function files(folder, ending) {
  const names = (await readdir(join(sentinel, folder))).sort();
  for (const name of names.filter((name) => !name.endsWith(ending))) wrong(join(sentinel, folder, name), 1, `is not a ${ending} file`);
  return names.filter((name) => name.endsWith(ending)).map((name) => join(sentinel, folder, name));
}

// What the API of alert rules takes (2024-09-01), as far as a rule here may use it.
const FIELDS = {
  id: /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/,
  name: /^.{1,256}$/,
  description: /^[^]{1,5000}$/,
  severity: /^(High|Medium|Low|Informational)$/,
  queryFrequency: /^PT\d+[MH]$/,
  queryPeriod: /^P(\d+D)?(T(\d+H)?(\d+M)?)?$/,
  triggerOperator: /^(GreaterThan|LessThan|Equal|NotEqual)$/,
  triggerThreshold: /^\d+$/,
  suppressionEnabled: /^(true|false)$/,
  suppressionDuration: /^PT\d+[MH]$/,
};
const OTHER_FIELDS = [
  "tactics",
  "techniques",
  "query",
  "eventGroupingSettings",
  "alertDetailsOverride",
  "customDetails",
  "entityMappings",
  "incidentConfiguration",
];
// ATT&CK's techniques that a rule here names, each with the tactics under which ATT&CK has it, as the API spells them.
const TACTICS_OF = {
  T1021: ["LateralMovement"],
  T1078: ["InitialAccess", "Persistence", "PrivilegeEscalation", "DefenseEvasion"],
  T1133: ["InitialAccess", "Persistence"],
  T1562: ["DefenseEvasion"],
  T1565: ["Impact"],
};
const IDENTIFIERS = {
  Account: ["FullName", "AadUserId", "Name", "UPNSuffix"],
  AzureResource: ["ResourceId"],
  CloudApplication: ["AppId", "Name", "InstanceName"],
  Host: ["AzureID", "HostName", "FullName"],
  IP: ["Address"],
};

function minutes(duration) {
  const [, days = 0, hours = 0, mins = 0] = /^P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?)?$/.exec(duration) ?? [];
  return Number(days) * 1440 + Number(hours) * 60 + Number(mins);
}

function checkRule(file, { value: rule, line }, columns) {
  const say = (key, message) => wrong(file, line(key), message);
  for (const [field, pattern] of Object.entries(FIELDS)) {
    if (!pattern.test(String(rule[field] ?? ""))) say(field, `${field} is ${JSON.stringify(rule[field])}`);
  }
  for (const field of Object.keys(rule)) {
    if (!(field in FIELDS) && !OTHER_FIELDS.includes(field)) say(field, `${field} is not deployed by rules.bicep`);
  }
  for (const field of OTHER_FIELDS) if (rule[field] == null) say(field, `${field} is missing`);
  const [frequency, period] = [minutes(rule.queryFrequency), minutes(rule.queryPeriod)];
  if (frequency < 5 || period < frequency || period > 14 * 1440) say("queryPeriod", "from 5 minutes to 14 days, and no shorter than queryFrequency");
  if (period >= 2 * 1440 && frequency < 60) say("queryPeriod", "a rule that looks back two days or more runs every hour at most");

  const tactics = rule.tactics ?? [];
  for (const technique of rule.techniques ?? []) {
    const known = TACTICS_OF[technique];
    if (!known) say("techniques", `${technique} is not among the techniques that this check knows`);
    else if (!known.some((tactic) => tactics.includes(tactic))) say("techniques", `${technique} belongs to ${known.join(", ")}`);
  }
  for (const tactic of tactics) {
    if (!(rule.techniques ?? []).some((technique) => TACTICS_OF[technique]?.includes(tactic))) say("tactics", `${tactic} has no technique`);
  }

  const has = (key, column) => columns.includes(column) || say(key, `the query gives no column ${column}`);
  const mapped = rule.entityMappings ?? [];
  if (mapped.length < 1 || mapped.length > 10) say("entityMappings", "from 1 to 10 entities");
  for (const { entityType, fieldMappings = [] } of mapped) {
    if (fieldMappings.length < 1 || fieldMappings.length > 3) say("entityMappings", `${entityType} has ${fieldMappings.length} identifiers`);
    for (const { identifier, columnName } of fieldMappings) {
      if (!IDENTIFIERS[entityType]?.includes(identifier)) say("entityMappings", `${entityType} has no identifier ${identifier}`);
      has("entityMappings", columnName);
    }
  }
  const details = Object.values(rule.customDetails ?? {});
  if (details.length > 20) say("customDetails", "20 at most");
  for (const column of details) has("customDetails", column);
  for (const format of Object.values(rule.alertDetailsOverride ?? {})) {
    const named = [...format.matchAll(/\{\{(.*?)\}\}/g)].map(([, column]) => column);
    if (named.length > 3) say("alertDetailsOverride", "a text names three columns at most");
    for (const column of named) has("alertDetailsOverride", column);
  }
  // Sentinel takes an alert's time from it.
  has("query", "TimeGenerated");
  const grouping = rule.incidentConfiguration?.groupingConfiguration ?? {};
  for (const entity of grouping.groupByEntities ?? []) {
    if (!mapped.some(({ entityType }) => entityType === entity)) say("incidentConfiguration", `groups by ${entity}, which is not mapped`);
  }
  for (const detail of grouping.groupByCustomDetails ?? []) {
    if (!(detail in (rule.customDetails ?? {}))) say("incidentConfiguration", `groups by ${detail}, which is no custom detail`);
  }
}

function checkHunt(file, { value: hunt, line }) {
  for (const field of ["id", "name", "description"]) {
    if (!FIELDS[field].test(String(hunt[field] ?? ""))) wrong(file, line(field), `${field} is ${JSON.stringify(hunt[field])}`);
  }
  for (const field of ["tactics", "techniques"]) if (!Array.isArray(hunt[field])) wrong(file, line(field), `${field} is missing`);
}

/** The queries of a workbook, also those in groups. */
function items(workbook) {
  return (workbook.items ?? []).flatMap((item) => (item.type === 12 ? items(item.content) : [item]));
}

async function checkWorkbook(file, globals) {
  const text = await readFile(file, "utf8");
  const all = items(JSON.parse(text));
  const names = all.map((item) => item.name);
  if (new Set(names).size !== names.length) wrong(file, 1, "two items have one name");
  const queries = all.filter((item) => item.type === 3);
  for (const { name, content } of queries) {
    const line = text.slice(0, text.indexOf(`"name": ${JSON.stringify(name)}`)).split("\n").length;
    // JSON has a query on one line: a complaint names the item, and the line within its query.
    const { complaints } = read(content.query, globals);
    for (const one of complaints) wrong(file, line, `${name}, line ${one.line + 1} of its query: ${one.message}`);
    if (!content.query.includes(TABLE)) wrong(file, line, `${name} does not read ${TABLE}`);
    const time = all.find((item) => item.type === 9)?.content.parameters.find((one) => one.name === content.timeContextFromParameter);
    if (time?.type !== 4) wrong(file, line, `${name} takes its time from no parameter of the workbook`);
  }
  return queries.length;
}

async function checkDeployed(loaded) {
  const file = join(sentinel, "rules.bicep");
  const text = await readFile(file, "utf8");
  const named = [...text.matchAll(/load(?:Yaml|Json|Text)Content\('([^']+)'/g)].map(([, name]) => name);
  for (const one of loaded.filter((one) => !named.includes(relative(sentinel, one)))) wrong(one, 1, "rules.bicep does not deploy it");
  const there = loaded.map((one) => relative(sentinel, one));
  for (const one of named.filter((one) => !there.includes(one))) wrong(file, 1, `${one} is deployed and not checked here`);
  for (const field of [...Object.keys(FIELDS), ...OTHER_FIELDS]) {
    if (!text.includes(`rule.${field}`)) wrong(file, 1, `does not deploy the field ${field} of a rule`);
  }
}

/** Complains about each of some queries, of which there must be one, and counts them. */
function checkAll(file, queries, globals) {
  for (const [line, query] of queries) {
    const { complaints, columns } = read(query, globals);
    for (const one of complaints) wrong(file, line + one.line, one.message);
    if (complaints.length === 0 && columns.length === 0) wrong(file, line, "the query gives no columns");
  }
  if (queries.length === 0) wrong(file, 1, "no query was found");
  return queries.length;
}

/** What a pattern's first group finds in a text, each with the number of its line. */
const found = (text, pattern) => [...text.matchAll(pattern)].map((one) => [text.slice(0, one.index + one[0].indexOf(one[1])).split("\n").length, one[1]]);

async function checkAlerts(file, globals) {
  const queries = found(await readFile(file, "utf8"), /^ *query: '((?:[^'\\\n]|\\.)*)'$/gm);
  return checkAll(file, queries.map(([line, query]) => [line, query.replace(/\\(.)/g, "$1")]), globals);
}

/** The queries of the pages that have any. */
async function checkPages(folder, globals) {
  const names = (await readdir(folder)).filter((name) => name.endsWith(".md")).sort();
  const pages = await Promise.all(names.map(async (name) => [join(folder, name), await readFile(join(folder, name), "utf8")]));
  const asking = pages.filter(([, text]) => /^```(kusto|kql)/m.test(text));
  return asking.map(([page, text]) => checkAll(page, found(text, /^```(?:kusto|kql)\n([^]*?)^```$/gm), globals)).reduce((a, b) => a + b, 0);
}

/** The parser must refuse each of these, and take the last: a check that takes everything would be green. */
function checkTheCheck(globals) {
  const broken = {
    "a misspelt column": [`${TABLE} | where Kode == "any-source"`, "KS142"],
    "an unknown table": ["Portculis_CL | take 1", "KS204"],
    "a string compared with a number": [`${TABLE} | where Code == 22`, "types"],
    "a number that must be among strings": [`${TABLE} | where TargetPortNumber in (22, "3389")`, "types"],
    "a string above a number": [`${TABLE} | where Code > 22`, "KS106"],
    "a number where a time must be": [`${TABLE} | where TimeGenerated > 3`, "KS106"],
    "an unknown function": [`${TABLE} | extend A = ingested_time()`, "KS211"],
    "a pipe without an operator": [`${TABLE} | where Code == "x" |`, null],
    "a column that summarize took away": [`${TABLE} | summarize count() by Code | where Sources == "*"`, "KS142"],
  };
  for (const [what, [query, code]] of Object.entries(broken)) {
    const { complaints } = read(query, globals);
    if (!complaints.some(({ message }) => code === null || message.startsWith(code))) {
      throw new Error(`the parser lets ${what} pass, or for another reason (${JSON.stringify(complaints)}): ${query}`);
    }
  }
  const { complaints } = read(`${TABLE} | where Code == "any-source" | summarize count() by bin(TimeGenerated, 1h)`, globals);
  if (complaints.length > 0) throw new Error(`the parser refuses a query that is right: ${JSON.stringify(complaints)}`);
  return Object.keys(broken).length;
}

const ours = { [TABLE]: JSON.parse(await readFile(join(sentinel, "table.json"), "utf8")) };
const globals = database(ours);
const insights = await component();
const refused = checkTheCheck(globals);

const rules = await files("analytics", ".yaml");
const hunts = await files("hunting", ".yaml");
const ids = new Map();
for (const file of [...rules, ...hunts]) {
  const document = await yaml(file);
  const { value, line } = document;
  if (ids.has(value.id)) wrong(file, line("id"), `has the id of ${ids.get(value.id)}`);
  ids.set(value.id, relative(root, file));
  const columns = check(file, line("query") + 1, String(value.query ?? ""), globals);
  if (rules.includes(file)) checkRule(file, document, columns);
  else checkHunt(file, document);
}
const workbook = join(sentinel, "workbook.json");
const charts = await checkWorkbook(workbook, globals);
await checkDeployed([...rules, ...hunts, workbook]);
const alerts = await checkAlerts(join(root, "infra/alerts.bicep"), database(insights));
const pages = await checkPages(join(root, "docs"), database({ ...ours, ...insights }));

for (const [what, count] of Object.entries({ "analytics rules": rules.length, "hunting queries": hunts.length, "workbook queries": charts })) {
  if (count === 0) mistakes.push(`infra/sentinel: there are no ${what}`);
}
for (const mistake of mistakes) console.error(mistake);
const count = rules.length + hunts.length + charts + alerts + pages;
console.log(
  `kql.mjs: ${count} queries read (${rules.length} rules, ${hunts.length} hunts, ${charts} of the workbook, ${alerts} alerts, ` +
    `${pages} of the documentation), ` +
    `${refused} broken ones refused, ${mistakes.length} mistakes`,
);
process.exit(mistakes.length > 0 ? 1 : 0);
