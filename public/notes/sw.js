// The worker of the field notes: the app itself (precached), the notes that were read last, and
// the edits that wait for the network. tokenward comes first.

import { tokenPlugin, tokenQueue } from 'tokenward/workbox'
import { createTokenWorker } from 'tokenward/worker'
import { createHandlerBoundToURL, precacheAndRoute } from 'workbox-precaching'
import { NavigationRoute, registerRoute } from 'workbox-routing'
import { NetworkFirst } from 'workbox-strategies'
import { noteAnswer, noteDropped } from './journal.js'

importScripts('/env.js')

const keyOf = (request) => request.headers.get('idempotency-key')

createTokenWorker({
  issuer: env.issuer,
  clientId: 'demo-notes',
  apis: [
    {
      url: `${env.api}notes`,
      strategy: new NetworkFirst({
        cacheName: 'notes',
        networkTimeoutSeconds: 3,
        plugins: [tokenPlugin()],
      }),
      queue: tokenQueue('notes', {
        replayed: ({ request, response }) => noteAnswer(keyOf(request), response),
        dropped: ({ request, reason }) => noteDropped(keyOf(request), reason),
      }),
    },
  ],
  scope: 'openid profile offline_access',
  // Without it this server (oidc-provider) gives no refresh token.
  authorizationParams: { prompt: 'consent' },
}).listen({ claim: true })

precacheAndRoute(self.__WB_MANIFEST)
registerRoute(new NavigationRoute(createHandlerBoundToURL('/notes/index.html')))

// A new version waits until the user wants it: update.js.
addEventListener('message', ({ data }) => {
  if (data?.type === 'SKIP_WAITING') skipWaiting()
})
