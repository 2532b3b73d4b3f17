import type { BrowserContext, Page } from 'playwright-core'
import { describe, expect, test } from 'vitest'
import {
  fetchIn,
  openAndSignIn,
  openApp,
  requestsTo,
  signIn,
  stopWorkers,
  useWorld,
} from '../support/world.js'

// Every character that means something in a URLPattern and can be in the path of an API.
const ODD = '/v(1)+:id/'

const world = useWorld({
  mounts: {
    [ODD]: ({ headers }, response) => {
      response.writeHead(200, { 'content-type': 'application/json' })
      response.end(JSON.stringify({ token: headers.authorization?.startsWith('Bearer ') ?? false }))
    },
  },
})

/** The app's worker, with a note of everything that it is asked about. */
const serveWorker = (code = '', later = '') => {
  const noting = `
    self.asked = []
    addEventListener('fetch', ({ request }) => asked.push(request.method + ' ' + request.url))
    ${code}`
  const source = world.workerSource(`apis: ['${world.api.url}/', '/api/', '${ODD}'],`, noting)
  const listen = 'claim: true, staticRoutes: tokenward.staticRoutes()'
  world.site.addFile('/sw.js', { body: `${source.replace('claim: true', listen)}; ${later}` })
}

const askedIn = (context: BrowserContext) =>
  context.serviceWorkers()[0]?.evaluate<string[]>('self.asked')

/** What becomes of the browser's workers from now on: `starting`, `running`, `stopped`. */
const watchWorkers = async (page: Page) => {
  const session = await page.context().newCDPSession(page)
  const seen: string[] = []
  session.on('ServiceWorker.workerVersionUpdated', ({ versions }) => {
    seen.push(...versions.map(({ runningStatus }) => runningStatus))
  })
  await session.send('ServiceWorker.enable')
  return seen
}

describe('with static routes', () => {
  test('only what may be ours reaches the worker, and all of it works', async () => {
    serveWorker()
    const { site, api, as } = world
    world.usePolicy({ page: { 'connect-src': '*' } })
    for (const path of ['/app.css', '/apiary']) site.addFile(path, { body: '{}' })
    const context = await world.newProfile()
    const page = await openAndSignIn(world, context)
    expect(await fetchIn(page, `${api.url}/me`)).toMatchObject({ body: { sub: 'alice' } })
    expect(await fetchIn(page, '/api/me')).toMatchObject({ body: { sub: 'alice' } })
    expect(await fetchIn(page, `${ODD}x?y#z`)).toEqual({ status: 200, body: { token: true } })
    expect(await page.evaluate(() => window.auth.checkSession())).toMatchObject({
      claims: { sub: 'alice' },
    })
    expect(requestsTo(api, '/me')).toMatchObject([{ authorization: 'bearer' }])

    // A page's own call of the token endpoint gets no further than before (IN-07).
    as.clearRequests()
    const refused = page.evaluate(
      async (url) => (await fetch(url, { method: 'POST', body: 'grant_type=x' })).status,
      `${as.issuer}/token`,
    )
    expect(await refused).toBe(403)
    expect(as.requests).toEqual([])

    // Nothing else has been asked about, not even the page itself.
    await page.goto(`${world.url}other`)
    await page.evaluate(() => window.auth.ready)
    const asset = `${site.origin}/app.css`
    expect(await fetchIn(page, asset)).toMatchObject({ status: 200 })
    const ours = [`${api.url}/`, `${site.origin}/api/`, site.origin + ODD, `${as.issuer}/token`]
    const isOurs = (url: string) =>
      url.startsWith(`${site.origin}/tokenward/`) || ours.some((each) => url.startsWith(each))
    const asked = (await askedIn(context)) ?? []
    expect(asked.length).toBeGreaterThan(5)
    expect(asked.filter((request) => !isOurs(request.replace(/^\w+ /, '')))).toEqual([])

    // A stopped worker stays stopped, until it is needed.
    await stopWorkers(page)
    const workers = await watchWorkers(page)
    expect(await fetchIn(page, asset)).toMatchObject({ status: 200 })
    expect(workers).toEqual(['stopped'])
    expect(await fetchIn(page, `${api.url}/me`)).toMatchObject({ body: { sub: 'alice' } })
    await expect.poll(() => workers).toContain('running')
    expect(await askedIn(context)).toEqual([`GET ${api.url}/me`])
  })

  test.each([
    ['does not have them', 'delete InstallEvent.prototype.addRoutes'],
    ['refuses them', 'InstallEvent.prototype.addRoutes = () => { throw Error("no") }'],
    ['has no URLPattern', 'delete self.URLPattern'],
  ])('a browser that %s goes on as without', async (_title, code) => {
    serveWorker(code)
    const context = await world.newProfile()
    const page = await openApp(context, world.url)
    await signIn(page)
    expect(await fetchIn(page, `${world.api.url}/me`)).toMatchObject({ body: { sub: 'alice' } })
    await fetchIn(page, '/other')
    expect(await askedIn(context)).toContain(`GET ${world.url}other`)
  })

  test.each(['race-network-and-fetch-handler', 'network'])(
    'a later route of the app does not get the callback: %s (CB-18)',
    async (source) => {
      serveWorker(
        '',
        `addEventListener('install', (event) => {
        const condition = { urlPattern: new URLPattern({ pathname: '/*' }) }
        event.waitUntil(event.addRoutes({ condition, source: '${source}' }))
      })`,
      )
      await openAndSignIn(world)
      expect(world.site.requests.filter(({ path }) => path.startsWith('/tokenward/'))).toEqual([])
    },
  )
})
