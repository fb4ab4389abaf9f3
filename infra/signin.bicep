targetScope = 'resourceGroup'

@description('The app.')
param appName string

@description('The client id of the API\'s registration. A wrong one refuses every sign-in.')
param apiClientId string

@description('Whether whoever carries no token is sent to sign in before the app sees the request. The app checks tokens itself either way.')
param requireSignIn bool

resource site 'Microsoft.Web/sites@2024-04-01' existing = {
  name: appName
}

resource signIn 'Microsoft.Web/sites/config@2024-04-01' = {
  parent: site
  name: 'authsettingsV2'
  properties: {
    platform: {
      enabled: true
    }
    globalValidation: {
      requireAuthentication: requireSignIn
      unauthenticatedClientAction: requireSignIn ? 'RedirectToLoginPage' : 'AllowAnonymous'
      redirectToProvider: 'azureactivedirectory'
      // Event Grid comes with a key and no token, and health is asked by what has no account.
      excludedPaths: [
        '/runtime/webhooks/*'
        '/api/health'
      ]
    }
    identityProviders: {
      azureActiveDirectory: {
        enabled: true
        registration: {
          clientId: apiClientId
          // No secret: the app's identity answers for the registration, by its federated credential.
          clientSecretSettingName: 'OVERRIDE_USE_MI_FIC_ASSERTION_CLIENTID'
          openIdIssuer: '${environment().authentication.loginEndpoint}${tenant().tenantId}/v2.0'
        }
        login: {
          // Without it the token is one for Microsoft Graph, which the app cannot check.
          loginParameters: [
            'scope=openid profile offline_access ${apiClientId}/user_impersonation'
          ]
        }
        validation: {
          allowedAudiences: [
            apiClientId
            'api://${apiClientId}'
          ]
        }
      }
    }
    login: {
      tokenStore: {
        enabled: true
      }
    }
    httpSettings: {
      requireHttps: true
    }
  }
}
