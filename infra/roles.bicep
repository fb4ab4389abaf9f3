targetScope = 'subscription'

@description('The app\'s identity.')
param principalId string

@description('What the app may do here: duties of infra/roles.json, as docs/roles.md tells them. A duty that is taken out here is not taken from the app: an assignment goes only when somebody deletes it.')
@allowed([
  'observe'
  'open'
  'close'
  'groups'
  'examine'
])
param duties array = [
  'observe'
  'examine'
]

var roles = loadJsonContent('roles.json')
// The role for people is made, too, and given to nobody: who is to ask for access is not known here.
var made = union(duties, [
  'people'
])

// A role's name is unique in the whole tenant, hence the place in it: two places can then be deployed apart.
resource definitions 'Microsoft.Authorization/roleDefinitions@2022-04-01' = [for duty in made: {
  name: guid(subscription().id, 'portcullis', duty)
  properties: {
    roleName: '${roles[duty].roleName} (${subscription().subscriptionId})'
    description: roles[duty].description
    type: 'CustomRole'
    permissions: [
      {
        actions: roles[duty].actions
        notActions: []
      }
    ]
    assignableScopes: [
      subscription().id
    ]
  }
}]

resource assignments 'Microsoft.Authorization/roleAssignments@2022-04-01' = [for (duty, i) in duties: {
  name: guid(subscription().id, principalId, 'portcullis', duty)
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: definitions[i].id
  }
}]
