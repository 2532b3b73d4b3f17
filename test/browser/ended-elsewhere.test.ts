import type { IncomingMessage, ServerResponse } from 'node:http'
import type { BrowserContext, Page } from 'playwright-core'
import { beforeEach, expect, test } from 'vitest'
import { bundleWorker } from '../support/bundled-worker.js'
import {
  fetchIn,
  openAndSignIn,
  openApp,
  requestsTo,
  sessionIn,
  signIn,
  stopWorkers,
  useWorld,
} from '../support/world.js'

/** An API that cannot be reached until a test says so. */
const orders = {
  isReachable: false,
  answered: [] as string[],
  handle: (request: IncomingMessage, response: ServerResponse) => {
    if (!orders.isReachable) return void response.destroy()
    orders.answered.push(`${request.method} ${request.url}`)
    response.writeHead(200).end()
  },
}

// Two apps of one client on one origin. The other one caches what it reads, and queues its writes.
const world = useWorld({
  base: '/a/',
  otherBase: '/b/',
  mounts: { '/orders/': (request, response) => orders.handle(request, response) },
})

beforeEach(async () => {
  orders.isReachable = false
  orders.answered.length = 0
  const body = await bundleWorker(`
    import { createTokenWorker } from 'tokenward/worker'
    import { tokenPlugin, tokenQueue } from 'tokenward/workbox'
    import { CacheFirst } from 'workbox-strategies'
    createTokenWorker({
      issuer: '${world.as.issuer}',
      clientId: '${world.clientId}',
      scope: 'openid profile offline_access',
      authorizationParams: { prompt: 'consent' },
      apis: [
        {
          url: '${world.api.url}/me',
          strategy: new CacheFirst({ cacheName: 'mine', plugins: [tokenPlugin()] }),
        },
        { url: '/orders/', queue: tokenQueue('orders') },
      ],
    }).listen({ claim: true })`)
  world.site.addFile('/b/sw.js', { body })
})

const urlOfB = () => new URL('/b/', world.url).href

const subjectIn = async (page: Page) =>
  ((await fetchIn(page, `${world.api.url}/me`)).body as { sub?: string }).sub

const order = (page: Page, name: string) =>
  fetchIn(page, `/orders/?${name}`, { method: 'POST', body: '{}' })

const cachedIn = (page: Page) =>
  page.evaluate(async () => {
    const keys = (await caches.has('mine')) ? await (await caches.open('mine')).keys() : []
    return keys.map(({ url }) => url)
  })

/** Alice reads and writes in the other app, closes it, and signs out where its worker is stopped. */
const leaveTraces = async (context: BrowserContext) => {
  const page = await openAndSignIn(world, context)
  const other = await openApp(context, urlOfB())
  expect(await subjectIn(other)).toBe('alice')
  await expect.poll(() => cachedIn(other)).toHaveLength(1)
  expect(await order(other, 'before')).toMatchObject({ status: 202 })
  await other.close()
  await stopWorkers(page)
  await page.evaluate(() => window.auth.logout({ local: true }))
  orders.isReachable = true
  return page
}

/** Nothing of before is read in the other app, or sent by it. */
const expectNothingOfBefore = async (context: BrowserContext) => {
  const other = await openApp(context, urlOfB())
  world.api.clearRequests()
  expect(await subjectIn(other)).toBe('alice')
  // It came from the API, and what lay there has made room for it.
  expect(requestsTo(world.api, '/me').map(({ status }) => status)).toEqual([200])
  await expect.poll(() => cachedIn(other)).toHaveLength(1)
  expect(await order(other, 'after')).toMatchObject({ status: 200 })
  expect(orders.answered).toEqual(['POST /?after'])
}

test('a user who signs out in one app leaves no cached answer and no queued write in another (SE-01)', async () => {
  const context = await world.newProfile()
  const page = await leaveTraces(context)
  await signIn(page)
  await expectNothingOfBefore(context)
})

test('and nobody else finds them, nor does the user who comes back after that (SE-01, SE-07)', async () => {
  const context = await world.newProfile()
  const page = await leaveTraces(context)
  world.as.setAutoSignIn('bob')
  await signIn(page, { prompt: 'login consent' })
  expect(await sessionIn(page)).toMatchObject({ claims: { sub: 'bob' } })
  await page.evaluate(() => window.auth.logout({ local: true }))
  world.as.setAutoSignIn('alice')
  await signIn(page, { prompt: 'login consent' })
  await expectNothingOfBefore(context)
})
