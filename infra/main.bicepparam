using './main.bicep'

// Each comes from azd's environment (`azd env set NAME VALUE`), or from the environment of `az deployment group`. Lists have
// commas; what main.bicep says of a parameter stands there, and docs/deploying.md has the table of names.

// Governed is the subscription that is deployed to, unless others are named; all is every one that the identity can see.
var governed = readEnvironmentVariable('PORTCULLIS_SUBSCRIPTIONS', readEnvironmentVariable('AZURE_SUBSCRIPTION_ID', ''))
var actionGroups = readEnvironmentVariable('PORTCULLIS_ACTION_GROUPS', '')

param environmentName = readEnvironmentVariable('AZURE_ENV_NAME', 'portcullis')
param location = readEnvironmentVariable('AZURE_LOCATION', '')
param mode = readEnvironmentVariable('PORTCULLIS_MODE', 'observe')
param subscriptions = governed == 'all' || empty(governed) ? [] : split(governed, ',')
param duties = split(readEnvironmentVariable('PORTCULLIS_DUTIES', 'observe,examine'), ',')
param assignRoles = bool(readEnvironmentVariable('PORTCULLIS_ASSIGN_ROLES', 'true'))
param apiClientId = readEnvironmentVariable('PORTCULLIS_API_CLIENT_ID', '')
param requireSignIn = bool(readEnvironmentVariable('PORTCULLIS_REQUIRE_SIGN_IN', 'false'))
param longestOpening = readEnvironmentVariable('PORTCULLIS_LONGEST_OPENING', 'PT8H')
param closeCap = int(readEnvironmentVariable('PORTCULLIS_CLOSE_CAP', '20'))
param jitNewer = readEnvironmentVariable('PORTCULLIS_JIT_NEWER', 'replaces')
param workspaceName = readEnvironmentVariable('PORTCULLIS_WORKSPACE_NAME', '')
param workspaceResourceGroup = readEnvironmentVariable('PORTCULLIS_WORKSPACE_RESOURCE_GROUP', '')
param workspaceSubscriptionId = readEnvironmentVariable('PORTCULLIS_WORKSPACE_SUBSCRIPTION', '')
param workspaceLocation = readEnvironmentVariable('PORTCULLIS_WORKSPACE_LOCATION', '')
param sentinelRules = bool(readEnvironmentVariable('PORTCULLIS_SENTINEL_RULES', 'true'))
param logWorkspaceId = readEnvironmentVariable('PORTCULLIS_LOG_WORKSPACE_ID', '')
param logDays = int(readEnvironmentVariable('PORTCULLIS_LOG_DAYS', '30'))
param actionGroupIds = empty(actionGroups) ? [] : split(actionGroups, ',')
param storeSku = readEnvironmentVariable('PORTCULLIS_STORE_SKU', 'Standard_ZRS')
param auditDays = int(readEnvironmentVariable('PORTCULLIS_AUDIT_DAYS', '0'))
param auditLocked = bool(readEnvironmentVariable('PORTCULLIS_AUDIT_LOCKED', 'false'))
param stateContainer = readEnvironmentVariable('PORTCULLIS_STATE_CONTAINER', 'state')
param auditContainer = readEnvironmentVariable('PORTCULLIS_AUDIT_CONTAINER', 'audit')
param keepDays = int(readEnvironmentVariable('PORTCULLIS_KEEP_DAYS', '7'))
param alwaysReady = json(readEnvironmentVariable('PORTCULLIS_ALWAYS_READY', '[]'))
param maximumInstances = int(readEnvironmentVariable('PORTCULLIS_MAXIMUM_INSTANCES', '40'))
param instanceMemory = int(readEnvironmentVariable('PORTCULLIS_INSTANCE_MEMORY', '512'))
