// An app that had a Workbox worker already: one call added, before anything of Workbox listens.
import { createTokenWorker } from 'tokenward/worker'
import { createHandlerBoundToURL, precacheAndRoute } from 'workbox-precaching'
import { NavigationRoute, registerRoute } from 'workbox-routing'
import { StaleWhileRevalidate } from 'workbox-strategies'

importScripts('/env.js', '/demo-trace.js')

createTokenWorker({
  issuer: env.issuer,
  clientId: 'demo-workbox',
  apis: [env.api, '/api/'],
  scope: 'openid profile email offline_access orders',
  authorizationParams: { prompt: 'consent' },
  trace,
}).listen({ claim: true })

// As it was before: the shell is precached, answers every navigation, and images are kept.
precacheAndRoute(self.__WB_MANIFEST)
registerRoute(new NavigationRoute(createHandlerBoundToURL('/workbox/index.html')))
registerRoute(
  ({ request }) => request.destination === 'image',
  new StaleWhileRevalidate({ cacheName: 'images' }),
)
