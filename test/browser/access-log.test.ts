import type { BrowserContext, Page } from 'playwright-core'
import { describe, expect, test } from 'vitest'
import { PROTOCOL } from '../../src/shared/protocol.js'
import { bundleWorker } from '../support/bundled-worker.js'
import {
  arriveAt,
  landIn,
  openApp,
  sessionIn,
  stopWorkers,
  useWorld,
  type World,
} from '../support/world.js'

// Chromium may send a navigation to the network while it starts the worker that will answer it.

const optionsOf = (world: World, more = '') => `{
  issuer: '${world.as.issuer}',
  clientId: '${world.clientId}',
  apis: ['${world.api.url}/'],
  scope: 'openid profile offline_access',
  authorizationParams: { prompt: 'consent' },
  ${more}
}`

const workers: Record<string, (world: World) => Promise<string>> = {
  'with listen()': async (world) => world.workerSource(),

  'with listen() and static routes': async (world) =>
    world.workerSource().replace('claim: true', '$&, staticRoutes: tokenward.staticRoutes()'),

  'with a redirect URI of its own': async (world) =>
    world.workerSource(`redirectUri: '${world.url}back',`),

  'beside Workbox with a fallback for navigations': (world) =>
    bundleWorker(`
      import { createTokenWorker } from 'tokenward/worker'
      import { createHandlerBoundToURL, precacheAndRoute } from 'workbox-precaching'
      import { NavigationRoute, registerRoute } from 'workbox-routing'
      createTokenWorker(${optionsOf(world)}).listen({ claim: true })
      precacheAndRoute([{ url: '/', revision: '1' }])
      registerRoute(new NavigationRoute(createHandlerBoundToURL('/')))`),

  'with a router of its own and handle()': async (world) => `
    importScripts('/tokenward-worker.js')
    const worker = tokenward.createTokenWorker(${optionsOf(world)})
    addEventListener('install', (event) => worker.handle(event))
    addEventListener('activate', (event) => event.waitUntil(clients.claim()))
    addEventListener('message', (event) => worker.handle(event))
    addEventListener('fetch', (event) => {
      if (worker.handle(event)) return
      if (event.request.mode === 'navigate') event.respondWith(fetch(event.request))
    })`,
}

/** Asks the worker what `login()` and `logout()` ask before they leave the page. */
const ask = (page: Page, name: 'login' | 'logout', input: object): Promise<string> =>
  page.evaluate(
    ({ tokenward, name, input }) =>
      new Promise<string>((resolve) => {
        const { port1, port2 } = new MessageChannel()
        port1.onmessage = ({ data }) => resolve(data.value.value.url)
        navigator.serviceWorker.controller?.postMessage({ tokenward }, [port2])
        const argumentList = [{ type: 'RAW', value: input }]
        port1.postMessage({ id: '1', type: 'APPLY', path: [name], argumentList })
      }),
    { tokenward: PROTOCOL, name, input },
  )

/** Stops the worker before the first hidden frame of the page leaves for it. */
const stopBeforeFrame = async (page: Page) => {
  await page.exposeFunction('stopWorkers', () => stopWorkers(page))
  await page.evaluate(() => {
    const append = document.body.append.bind(document.body)
    document.body.append = (frame) => {
      document.body.append = append
      const { stopWorkers } = window as unknown as { stopWorkers(): Promise<void> }
      void stopWorkers().then(() => append(frame))
    }
  })
}

/** Signs in, signs in silently and signs out; the worker has been stopped before each arrival. */
const goAllWays = async (world: World, context: BrowserContext): Promise<void> => {
  const { as, url } = world
  const page = await openApp(context, url)
  const leave = await ask(page, 'login', { returnTo: url })
  await stopWorkers(page)
  await page.goto(leave)
  await page.fill('[name=login]', 'alice')
  await page.fill('[name=password]', 'demo')
  await page.click('button[name=submit]')
  await page.waitForSelector('button[value=allow]')
  await stopWorkers(page)
  await landIn(page, url, () => page.click('button[value=allow]'))
  expect(await sessionIn(page)).toMatchObject({ claims: { sub: 'alice' } })

  await stopBeforeFrame(page)
  as.clearRequests()
  as.setFault({ path: '/auth', kind: 'delay-after', ms: 200, times: 1 })
  const done = page.waitForEvent('framenavigated', (frame) => frame.url().includes('/done.html'))
  void page.evaluate(() => window.auth.checkSession().catch(() => {})).catch(() => {})
  await as.waitForRequest(({ path }) => path === '/auth')
  await stopWorkers(page)
  await done
  expect(as.requests.filter(({ path }) => path === '/token')).toMatchObject([
    { grantType: 'authorization_code', status: 200 },
  ])

  const out = await ask(page, 'logout', {})
  await stopWorkers(page)
  await page.goto(out)
  await page.waitForSelector('button[name=logout]')
  await stopWorkers(page)
  await arriveAt(page, url, () => page.click('button[name=logout]'))
  expect(await sessionIn(page)).toBeUndefined()
}

/** What has come to the site of all that only the worker is to see. */
const leaked = ({ site }: World) =>
  site.requests
    .filter(({ path, query }) => /^\/(tokenward\/|back)/.test(path) || query)
    .map(({ path, query }) => `${path}?${query}`)

const browsers: [string, string[]?][] = [
  ['as it is installed'],
  ['that asks the network in any case', ['--enable-features=ServiceWorkerAutoPreload']],
]

describe.each(browsers)('in a browser %s', (_title, browserArgs) => {
  const world = useWorld({ autoSignIn: false, ...(browserArgs && { browserArgs }) })

  test.each(Object.entries(workers))(
    "a worker %s: the site's access log never has the code, the state or a ticket",
    async (_title, source) => {
      world.site.addFile('/sw.js', { body: await source(world) })
      await goAllWays(world, await world.newProfile())
      expect(leaked(world)).toEqual([])
    },
  )
})
