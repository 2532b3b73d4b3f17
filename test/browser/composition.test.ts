import type { BrowserContext, Page } from 'playwright-core'
import { describe, expect, test } from 'vitest'
import { startApi } from '../../demo/api.mjs'
import { startAuthorizationServer } from '../../demo/authorization-server.mjs'
import { bundleWorker } from '../support/bundled-worker.js'
import { anyServer } from '../support/strict-policy.js'
import {
  authorizationsAt,
  eventsIn,
  expireToken,
  fetchIn,
  heard,
  openApp,
  refreshesAt,
  sessionIn,
  signIn,
  useWorld,
  type World,
} from '../support/world.js'

// Workers as apps have them, with real Workbox in them and tokenward as one guest among others.

const world = useWorld()

const optionsFor = (as: World['as'], apis: string[], more = '') => `{
  issuer: '${as.issuer}',
  clientId: '${world.clientId}',
  apis: ${JSON.stringify(apis)},
  scope: 'openid profile offline_access',
  authorizationParams: { prompt: 'consent' },
  ${more}
}`

const options = () => optionsFor(world.as, [`${world.api.url}/`, '/api/'])

const siteRequests = (path: string) =>
  world.site.requests.filter((request) => request.path === path)

const serveWorker = (body: string) => world.site.addFile('/sw.js', { body })

/** What came to listeners after ours. */
const declined = `
  self.declined = []
  self.addEventListener('fetch', ({ request }) => self.declined.push(request.url))`

const declinedIn = (context: BrowserContext) =>
  context.serviceWorkers()[0]?.evaluate<string[]>('self.declined')

/** Everything that is in a cache: URLs, and the headers they were asked for with. */
const cachedIn = (page: Page) =>
  page.evaluate(async () => {
    const found: string[] = []
    for (const name of await caches.keys()) {
      for (const { url, headers } of await (await caches.open(name)).keys()) {
        found.push([url, ...headers].join(' '))
      }
    }
    return found
  })

/** All that tokenward does: sign-in, requests to both APIs, a renewal, a silent login. */
const expectAllWorks = async (page: Page) => {
  const { as, api } = world
  const url = page.url()
  expect(await signIn(page)).toMatchObject({ claims: { sub: 'alice' } })
  expect(page.url()).toBe(url)
  for (const url of [`${api.url}/me`, '/api/me']) {
    expect(await fetchIn(page, url)).toMatchObject({ status: 200, body: { sub: 'alice' } })
  }
  await expireToken(world, page)
  expect(await fetchIn(page, `${api.url}/me`)).toMatchObject({ status: 200 })
  expect(refreshesAt(as)).toHaveLength(1)
  const before = authorizationsAt(as).length
  expect(await page.evaluate(() => window.auth.checkSession())).toMatchObject({
    claims: { sub: 'alice' },
  })
  expect(authorizationsAt(as)).toHaveLength(before + 1)
}

const workbox = (rest: string) => `
  import { createTokenWorker } from 'tokenward/worker'
  import { enable } from 'workbox-navigation-preload'
  import { createHandlerBoundToURL, precacheAndRoute } from 'workbox-precaching'
  import { NavigationRoute, registerRoute } from 'workbox-routing'
  import { CacheFirst, NetworkFirst, StaleWhileRevalidate } from 'workbox-strategies'
  const precache = () => precacheAndRoute([{ url: '/', revision: '1' }])
  const navigateFallback = () => registerRoute(new NavigationRoute(createHandlerBoundToURL('/')))
  const listen = () => createTokenWorker(${options()}).listen({ claim: true })
  ${rest}`

const addAssets = () => {
  for (const path of ['/news.json', '/theme.css', '/logo.svg']) {
    world.site.addFile(path, { body: '{}' })
  }
}

describe('in a worker of Workbox', () => {
  test('precaching, a fallback for navigations, strategies and preload change nothing (CB-18)', async () => {
    addAssets()
    serveWorker(
      await bundleWorker(
        workbox(`
          listen()
          ${declined}
          precache()
          navigateFallback()
          registerRoute(/\\.json$/, new NetworkFirst())
          registerRoute(/\\.css$/, new StaleWhileRevalidate())
          registerRoute(/\\.svg$/, new CacheFirst())
          enable()`),
      ),
    )
    const context = await world.newProfile()
    // The network's answer to a preload is slower than ours.
    let answer = () => {}
    const answered = new Promise<void>((resolve) => {
      answer = resolve
    })
    const callback = '/tokenward/callback.html'
    world.site.addFile(callback, { body: () => answered.then(() => 'inert') })
    const page = await openApp(context, world.url)
    await expectAllWorks(page)

    // The others do their work: the shell for any path, and each strategy.
    await page.goto(`${world.url}any/path`)
    await page.evaluate(() => window.auth.ready)
    for (const path of ['/news.json', '/theme.css', '/logo.svg']) {
      expect(await fetchIn(page, path)).toMatchObject({ status: 200 })
    }
    // The strategy stores the answer behind the page's back.
    await page.waitForFunction(async () => await caches.match('/logo.svg'))
    expect(await fetchIn(page, '/logo.svg')).toMatchObject({ status: 200 })
    expect(siteRequests('/logo.svg')).toHaveLength(1)

    const seen = (await declinedIn(context)) ?? []
    expect(seen).toContain(`${world.url}any/path`)
    expect(seen.filter((url) => /\/tokenward\/|code=|\/me/.test(url))).toEqual([])
    const cached = await cachedIn(page)
    expect(cached).toHaveLength(4)
    expect(cached.filter((entry) => /authorization|\/tokenward\/|\/me/i.test(entry))).toEqual([])
    // The browser has sent the server's answers to the network as well, and they are waited for:
    // else Chromium writes an error to the worker's console.
    const preloads = siteRequests(callback)
    expect(preloads.length).toBeGreaterThan(0)
    answer()
    for (const preload of preloads) {
      await world.site.waitForRequest(
        (request) => request === preload && request.status !== undefined,
      )
      expect(preload.status).toBe(200)
    }
    world.site.removeFile(callback)
  })

  test.each([
    ['a fallback for navigations', 'navigateFallback()'],
    ['a network-first fallback', 'registerRoute(new NavigationRoute(new NetworkFirst()))'],
    [
      'a route for documents',
      "registerRoute(({ request }) => request.destination === 'document', new NetworkFirst())",
    ],
  ])(
    '%s before listen() is worker_order, before it swallows a callback (BR-10)',
    async (_title, route) => {
      serveWorker(await bundleWorker(workbox(`precache(); ${route}; listen()`)))
      const page = await (await world.newProfile()).newPage()
      await page.goto(world.url)
      const error = page.evaluate(() =>
        window.auth.ready.catch(({ code, message }) => `${code} ${message}`),
      )
      expect(await error).toMatch(/^worker_order .*listen\(\)/)
      // What was tried was no answer of a server.
      expect(world.site.requests.filter(({ query }) => query)).toEqual([])
    },
  )

  test('routes before listen() that are for none of our pages are no worker_order', async () => {
    addAssets()
    serveWorker(
      await bundleWorker(
        workbox(`
          precache()
          const denylist = [/^\\/tokenward\\//]
          registerRoute(new NavigationRoute(createHandlerBoundToURL('/'), { denylist }))
          registerRoute(/\\.svg$/, new CacheFirst())
          self.addEventListener('fetch', () => {})
          listen()`),
      ),
    )
    const page = await openApp(await world.newProfile(), world.url)
    expect(await fetchIn(page, '/logo.svg')).toMatchObject({ status: 200 })
    await expectAllWorks(page)
  })
})

describe('in a worker with a router of its own', () => {
  const router = (route: string) => `
    import { createTokenWorker } from '/lib.js'
    const worker = createTokenWorker(${options()})
    addEventListener('install', (event) => worker.handle(event))
    addEventListener('activate', (event) => event.waitUntil(clients.claim()))
    addEventListener('message', (event) => worker.handle(event))
    addEventListener('fetch', (event) => {
      ${route}
    })`

  const openModuleApp = async () => {
    // What a module imports is a worker to the policy of the page as well.
    world.usePolicy({ page: { 'worker-src': "'self'" } })
    world.site.addFile('/lib.js', {
      body: await bundleWorker("export { createTokenWorker } from 'tokenward/worker'", 'esm'),
    })
    const call = "tokenward.createTokenManager('/sw.js', { type: 'module' })"
    world.site.addFile('/module', { body: world.pageFor(call), type: 'text/html' })
    const context = await world.newProfile()
    const page = await context.newPage()
    await page.goto(`${world.url}module`)
    return {
      context,
      page,
      ready: () => page.evaluate(() => window.auth.ready.catch(({ code }) => code)),
    }
  }

  test('a module worker that hands events to handle() has all of it', async () => {
    serveWorker(
      router(`
        if (worker.handle(event)) return
        const { pathname } = new URL(event.request.url)
        if (pathname === '/greeting') event.respondWith(new Response('hello'))`),
    )
    const { page, ready } = await openModuleApp()
    expect(await ready()).toBeUndefined()
    await expectAllWorks(page)
    expect(await fetchIn(page, '/greeting')).toMatchObject({ body: 'hello' })
  })

  test('one that keeps navigations to itself is told so (BR-10)', async () => {
    serveWorker(router("if (event.request.mode !== 'navigate') worker.handle(event)"))
    const { ready } = await openModuleApp()
    expect(await ready()).toBe('worker_order')
  })
})

describe('two token workers in one service worker', () => {
  test('have their own tokens and pages, and end their own sessions (CF-10)', async () => {
    const { api, site } = world
    world.usePolicy(anyServer)
    // Not localhost, where both servers would have the same cookies.
    const as = await startAuthorizationServer({
      host: '127.0.0.1',
      autoSignIn: 'bob',
      clients: [
        {
          clientId: world.clientId,
          redirectUris: [`${site.origin}/second/callback.html`],
          postLogoutRedirectUris: [`${site.origin}/second/logout.html`],
          origins: [site.origin],
        },
      ],
    })
    const secondApi = await startApi({ origins: [site.origin], verify: as.verifyAccessToken })
    try {
      serveWorker(
        await bundleWorker(`
          import { createTokenWorker } from 'tokenward/worker'
          createTokenWorker(${optionsFor(world.as, [`${api.url}/`])}).listen({ claim: true })
          createTokenWorker(${optionsFor(as, [`${secondApi.url}/`], "authPath: 'second/'")}).listen()`),
      )
      const call = (authPath: string) =>
        `tokenward.createTokenManager('/sw.js', { authPath: '${authPath}' })`
      const first = `${world.url}first`
      const second = `${world.url}second`
      site.addFile('/first', { body: world.pageFor(call('tokenward/')), type: 'text/html' })
      site.addFile('/second', { body: world.pageFor(call('second/')), type: 'text/html' })
      const context = await world.newProfile()
      const page = await openApp(context, first)
      const other = await openApp(context, second)
      const users = async () => {
        const answers = await Promise.all(
          [api, secondApi].map(({ url }) => fetchIn(page, `${url}/me`)),
        )
        return answers.map(({ status, body }) =>
          status === 200 ? (body as { sub: string }).sub : status,
        )
      }

      expect(await signIn(page)).toMatchObject({ claims: { sub: 'alice' } })
      expect(await sessionIn(other)).toBeUndefined()
      expect(await users()).toEqual(['alice', 401])
      expect(await signIn(other)).toMatchObject({ claims: { sub: 'bob' } })
      expect(await users()).toEqual(['alice', 'bob'])
      await page.evaluate(() => window.auth.renew())
      await heard(page, 'renewed')

      await page.evaluate(() => window.auth.logout({ local: true }))
      await heard(page, 'signed-out logout')
      expect(await users()).toEqual([401, 'bob'])
      expect(await sessionIn(other)).toMatchObject({ claims: { sub: 'bob' } })
      // Neither hears of the other.
      expect(await eventsIn(other)).toEqual([])
      expect(await eventsIn(page)).toEqual(['state', 'renewed', 'signed-out logout'])

      await other.evaluate(() => window.auth.logout({ local: true }))
      expect(await users()).toEqual([401, 401])
    } finally {
      await Promise.all([as.close(), secondApi.close()])
    }
  })
})
