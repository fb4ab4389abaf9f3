// az deployment sub create --location REGION --template-file policy/policy.bicep, in each subscription that is to have it.
targetScope = 'subscription'

@description('Audit tells of a JIT policy that lets everybody in or allows long openings; Deny refuses to have it written, also by the portal; Disabled does neither.')
@allowed([
  'Audit'
  'Deny'
  'Disabled'
])
param effect string = 'Audit'

@description('Durations that a JIT policy may allow, as they are written there; anything else counts as too long. Empty takes those of the definition.')
param allowedDurations array = []

@description('Whether it is assigned to the subscription, too. False makes the definition alone.')
param assign bool = true

// Read as text: the brackets in it are Azure Policy's own, and no expressions of this template.
var shipped = json(loadTextContent('jit-policies.json'))
var durations = empty(allowedDurations) ? shipped.parameters.allowedDurations.defaultValue : allowedDurations

resource definition 'Microsoft.Authorization/policyDefinitions@2021-06-01' = {
  name: 'portcullis-jit-policies'
  properties: {
    displayName: shipped.displayName
    description: shipped.description
    policyType: 'Custom'
    mode: shipped.mode
    metadata: shipped.metadata
    parameters: shipped.parameters
    policyRule: shipped.policyRule
  }
}

resource assignment 'Microsoft.Authorization/policyAssignments@2022-06-01' = if (assign) {
  name: 'portcullis-jit-policies'
  properties: {
    displayName: shipped.displayName
    description: shipped.description
    policyDefinitionId: definition.id
    parameters: {
      effect: {
        value: effect
      }
      allowedDurations: {
        value: durations
      }
    }
  }
}
