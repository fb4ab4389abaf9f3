// One resource group, and not the subscription that azd makes groups in by default: who deploys then needs rights in this
// group alone. What lies outside it is deployed to its own place, by modules here or after the code by events.sh.
targetScope = 'resourceGroup'

@description('The name of the deployment: azd\'s environment. With the resource group it decides every name, so another one makes another Portcullis.')
@minLength(1)
@maxLength(40)
param environmentName string

@description('The region of everything that has one. Flex Consumption must be offered there, and zones for the default redundancy of the store. Empty means that of the resource group.')
param location string = ''

@description('observe says what would be shut and changes nothing; enforce shuts it. Begin with observe. With enforce the duties must have close in them, else every close is an alarm.')
@allowed([
  'observe'
  'enforce'
])
param mode string = 'observe'

@description('The subscriptions to govern, as GUIDs. Empty means all that the identity can see: then nothing is assigned here, deploy roles-management-group.bicep on the management group. One that is wrong is refused when its roles are assigned.')
param subscriptions array = []

@description('What the app may do in the governed subscriptions: observe, open, close, and examine for portcullis doctor (docs/roles.md). One too few shows as an alarm or as a part of health that fails; one too many is a right that nobody needs.')
@allowed([
  'observe'
  'open'
  'close'
  'examine'
])
param duties array = [
  'observe'
  'examine'
]

@description('Whether the roles in the governed subscriptions, and that to read incidents in Sentinel\'s workspace, are made here. False where somebody else assigns them: whoever deploys then needs no right there, and without the roles the app sees nothing.')
param assignRoles bool = true

@description('The client id of the API\'s registration, which registration.sh makes. Empty lets nobody in but to health. A wrong one refuses every token.')
param apiClientId string = ''

@description('Whether whoever carries no token is sent to sign in before the app sees the request. Not needed: the app checks tokens itself.')
param requireSignIn bool = false

@description('The longest opening that is let stand, from PT5M to PT24H. Longer ones are shut at once. Another value stops the start of the app.')
param longestOpening string = 'PT8H'

@description('How many VMs one sweep of a subscription may send to be shut. It bounds what a mistake can shut at once; what is above it is counted in an alarm.')
@minValue(1)
@maxValue(1000)
param closeCap int = 20

@description('What a newer JIT request makes of an older one for the same port: see docs/switches.md. adds only where you have seen that both stay; wrongly set, an opening that was granted may be lost.')
@allowed([
  'replaces'
  'adds'
])
param jitNewer string = 'replaces'

@description('The name of Microsoft Sentinel\'s workspace, for the rows, and for the incidents that requests name. Empty takes the workspace of the app\'s own log, without Sentinel\'s rules: enough to try, and nobody is told.')
param workspaceName string = ''

@description('The resource group of Sentinel\'s workspace. Empty means this one. A wrong one is refused: the workspace is not there.')
param workspaceResourceGroup string = ''

@description('The subscription of Sentinel\'s workspace. Empty means this one.')
param workspaceSubscriptionId string = ''

@description('The region of the workspace that the rows go to. Empty means the region of everything else. The data collection rule must lie in it; another one is refused.')
param workspaceLocation string = ''

@description('Whether Sentinel\'s rules, which make incidents of rows, run. False makes them switched off.')
param sentinelRules bool = true

@description('The resource id of a workspace for the app\'s own log. Empty makes one.')
param logWorkspaceId string = ''

@description('For how many days a new workspace keeps the app\'s own log.')
@minValue(30)
@maxValue(730)
param logDays int = 30

@description('Resource ids of action groups that Azure Monitor\'s alerts tell. With none the alerts stand in the portal and nobody is told.')
param actionGroupIds array = []

@description('The redundancy of the store. In a region without zones it must be Standard_LRS or Standard_GRS.')
@allowed([
  'Standard_LRS'
  'Standard_ZRS'
  'Standard_GRS'
  'Standard_GZRS'
])
param storeSku string = 'Standard_ZRS'

@description('For how many days audit records can be neither changed nor deleted; 0 for no such policy. You cannot delete the account while a record is younger, once the policy is locked.')
@minValue(0)
@maxValue(146000)
param auditDays int = 0

@description('Whether the policy of auditDays has been locked: then it is left as it is.')
param auditLocked bool = false

@description('The container of records and indexes. Another one begins a store anew: every grant is gone with the old one.')
param stateContainer string = 'state'

@description('The container of audit records. A store that begins anew takes another one of these, too.')
param auditContainer string = 'audit'

@description('For how many days deleted blobs and earlier versions of records can be had back.')
@minValue(1)
@maxValue(365)
param keepDays int = 7

@description('Instances that are kept running, as objects with name (http, or function:NAME) and instanceCount. Each costs while nothing happens; without any the first event after a quiet time waits for a start.')
param alwaysReady array = []

@description('How many instances one function may have at most.')
@minValue(40)
@maxValue(1000)
param maximumInstances int = 40

// No @allowed: what main.bicepparam reads of the environment is any number for the compiler, and that is not assignable to three.
@description('The memory of an instance in MB: 512, 2048 or 4096. Azure refuses another.')
@minValue(512)
@maxValue(4096)
param instanceMemory int = 512

var place = empty(location) ? resourceGroup().location : location
var token = toLower(uniqueString(resourceGroup().id, environmentName))
// Several environments may share a workspace.
var rowsRule = environmentName == 'portcullis' ? environmentName : 'portcullis-${environmentName}'
var name = 'portcullis-${token}'
var storeName = 'pcstore${token}'
var hostStorageName = 'pchost${token}'
// Those that functions/*/function.json name; a check holds the two against each other.
var queueNames = [
  'approval'
  'sweep'
  'alerts'
]
var tags = {
  'azd-env-name': environmentName
}

// Where the table lies: in Sentinel's workspace, else where the app's own log goes. All of it is known before anything is
// made, which the place of a module must be.
var hasSentinel = !empty(workspaceName)
var logName = empty(logWorkspaceId) ? name : last(split(logWorkspaceId, '/'))
var logResourceGroup = empty(logWorkspaceId) ? resourceGroup().name : split(logWorkspaceId, '/')[4]
var logSubscriptionId = empty(logWorkspaceId) ? subscription().subscriptionId : split(logWorkspaceId, '/')[2]
var tableWorkspace = hasSentinel ? workspaceName : logName
var tableResourceGroup = hasSentinel ? (empty(workspaceResourceGroup) ? resourceGroup().name : workspaceResourceGroup) : logResourceGroup
var tableSubscriptionId = hasSentinel ? (empty(workspaceSubscriptionId) ? subscription().subscriptionId : workspaceSubscriptionId) : logSubscriptionId
var sentinelWorkspaceId = hasSentinel ? resourceId(tableSubscriptionId, tableResourceGroup, 'Microsoft.OperationalInsights/workspaces', workspaceName) : ''

module identity 'identity.bicep' = {
  name: 'identity'
  params: {
    location: place
    name: name
    tags: tags
  }
}

module storage 'storage.bicep' = {
  name: 'storage'
  params: {
    location: place
    storeName: storeName
    hostName: hostStorageName
    storeSku: storeSku
    auditDays: auditDays
    auditLocked: auditLocked
    keepDays: keepDays
    stateContainer: stateContainer
    auditContainer: auditContainer
    tags: tags
  }
}

module serviceBus 'servicebus.bicep' = {
  name: 'servicebus'
  params: {
    location: place
    name: name
    queueNames: queueNames
    tags: tags
  }
}

module insights 'insights.bicep' = {
  name: 'insights'
  params: {
    location: place
    name: name
    workspaceId: logWorkspaceId
    retentionDays: logDays
    tags: tags
  }
}

module rights 'rights.bicep' = {
  name: 'rights'
  params: {
    principalId: identity.outputs.principalId
    eventsPrincipalId: identity.outputs.eventsPrincipalId
    storeName: storeName
    stateContainer: stateContainer
    auditContainer: auditContainer
    hostName: hostStorageName
    namespaceName: name
    componentName: name
  }
  dependsOn: [
    storage
    serviceBus
    insights
  ]
}

module table 'sentinel/table.bicep' = {
  name: '${name}-table'
  scope: resourceGroup(tableSubscriptionId, tableResourceGroup)
  params: {
    workspaceName: tableWorkspace
    location: empty(workspaceLocation) ? place : workspaceLocation
    ruleName: rowsRule
  }
  // The workspace may be the one that is made there.
  dependsOn: [
    insights
  ]
}

module tableRights 'sentinel/rights.bicep' = {
  name: '${name}-table-rights'
  scope: resourceGroup(tableSubscriptionId, tableResourceGroup)
  params: {
    principalId: identity.outputs.principalId
    ruleName: rowsRule
  }
  dependsOn: [
    table
  ]
}

module rules 'sentinel/rules.bicep' = if (hasSentinel) {
  name: '${name}-rules'
  scope: resourceGroup(tableSubscriptionId, tableResourceGroup)
  params: {
    workspaceName: tableWorkspace
    location: empty(workspaceLocation) ? place : workspaceLocation
    rulesEnabled: sentinelRules
  }
  // A rule that asks a table which is not there is refused, and it is there for queries some time after it is for ARM: the app
  // takes minutes.
  dependsOn: [
    table
    app
  ]
}

module incidents 'sentinel/incidents.bicep' = if (hasSentinel && assignRoles) {
  name: '${name}-incidents'
  scope: resourceGroup(tableSubscriptionId, tableResourceGroup)
  params: {
    workspaceName: tableWorkspace
    principalId: identity.outputs.principalId
  }
}

module roles 'roles.bicep' = [for (id, i) in subscriptions: if (assignRoles) {
  name: '${name}-roles-${i}'
  scope: subscription(id)
  params: {
    principalId: identity.outputs.principalId
    duties: duties
  }
}]

module app 'app.bicep' = {
  name: 'app'
  params: {
    location: place
    name: name
    identityId: identity.outputs.id
    identityClientId: identity.outputs.clientId
    mode: mode
    subscriptions: subscriptions
    blobEndpoint: storage.outputs.storeEndpoint
    stateContainer: storage.outputs.stateContainer
    auditContainer: storage.outputs.auditContainer
    serviceBusHostName: serviceBus.outputs.hostName
    logsEndpoint: table.outputs.endpoint
    logsRuleId: table.outputs.immutableId
    logsStream: table.outputs.stream
    sentinelWorkspaceId: sentinelWorkspaceId
    apiClientId: apiClientId
    longestOpening: longestOpening
    closeCap: closeCap
    jitNewer: jitNewer
    insightsConnectionString: insights.outputs.connectionString
    hostStorageName: hostStorageName
    packageUrl: storage.outputs.packageUrl
    alwaysReady: alwaysReady
    maximumInstances: maximumInstances
    instanceMemory: instanceMemory
    tags: tags
  }
  // The host opens its store when it starts.
  dependsOn: [
    rights
    tableRights
  ]
}

module signIn 'signin.bicep' = if (!empty(apiClientId)) {
  name: 'signin'
  params: {
    appName: name
    apiClientId: apiClientId
    requireSignIn: requireSignIn
  }
  dependsOn: [
    app
  ]
}

module alerts 'alerts.bicep' = {
  name: 'alerts'
  params: {
    location: place
    name: name
    namespaceId: serviceBus.outputs.id
    queueNames: queueNames
    componentId: insights.outputs.componentId
    actionGroupIds: actionGroupIds
    tags: tags
  }
}

// What the scripts read, by azd's environment.
output AZURE_LOCATION string = place
output PORTCULLIS_API_CLIENT_ID string = apiClientId
output PORTCULLIS_APP_ID string = app.outputs.id
output PORTCULLIS_APP_HOST string = app.outputs.hostName
output PORTCULLIS_PRINCIPAL_ID string = identity.outputs.principalId
output PORTCULLIS_STORE_ID string = storage.outputs.storeId
output PORTCULLIS_STATE_CONTAINER string = storage.outputs.stateContainer
output PORTCULLIS_AUDIT_CONTAINER string = storage.outputs.auditContainer
output PORTCULLIS_DEAD_LETTER_CONTAINER string = storage.outputs.deadLetterContainer
output PORTCULLIS_EVENTS_IDENTITY_ID string = identity.outputs.eventsId
