// The demo's whole service worker. The site's own values come from a file, as in "build once,
// deploy to many"; demo-trace.js feeds the live picture, and an app has no use for it.
importScripts('/env.js', '/tokenward-worker.js', '/demo-trace.js')

tokenward
  .createTokenWorker({
    issuer: env.issuer,
    clientId: 'demo',
    apis: [env.api, '/api/'],
    scope: 'openid profile email offline_access orders',
    // Without it this server (oidc-provider) gives no refresh token.
    authorizationParams: { prompt: 'consent' },
    trace,
  })
  .listen({ claim: true })
