import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Page } from 'playwright-core'
import { beforeEach, describe, expect, test } from 'vitest'
import { bundleWorker } from '../support/bundled-worker.js'
import {
  dispatchSync,
  eventsIn,
  expireToken,
  fetchIn,
  openApp,
  openSignedIn,
  refreshesAt,
  requestsTo,
  sessionIn,
  signIn,
  stopWorkers,
  useWorld,
} from '../support/world.js'

/** An API on the app's own origin that answers what it is told to, or cuts the connection. */
const flaky = {
  answer: 200 as number | 'cut',
  answered: [] as string[],
  handle: (request: IncomingMessage, response: ServerResponse) => {
    const query = request.url?.split('?')[1] ?? ''
    const { answer } = flaky
    flaky.answered.push(`${query} ${answer}`)
    if (answer === 'cut') response.destroy()
    else response.writeHead(answer).end()
  },
}

const world = useWorld({ mounts: { '/flaky/': flaky.handle } })

/** Profiles opened from now on get a worker with this entry of `apis`, beside the API as it is. */
const useEntry = async (entry: string, more = '') => {
  const body = await bundleWorker(`
    import { createTokenWorker, dpop } from 'tokenward/worker'
    import { tokenPlugin, tokenQueue } from 'tokenward/workbox'
    import { ExpirationPlugin } from 'workbox-expiration'
    import { CacheFirst, NetworkFirst, StaleWhileRevalidate } from 'workbox-strategies'
    const news = []
    const note = (kind) => ({ request, response, reason }) =>
      news.push([kind, request.method, new URL(request.url).search, response?.status ?? reason])
    addEventListener('message', ({ data, ports }) => data === 'news' && ports[0].postMessage(news))
    createTokenWorker({
      issuer: '${world.as.issuer}',
      clientId: '${world.clientId}',
      scope: 'openid profile offline_access',
      authorizationParams: { prompt: 'consent' },
      apis: [${entry}],
      ${more}
    }).listen({ claim: true })`)
  world.site.addFile('/sw.js', { body })
}

const cacheOf = (strategy: string, { path = '/me', more = '' } = {}) =>
  useEntry(
    `{
      url: '${world.api.url}${path}',
      strategy: new ${strategy}({
        cacheName: 'mine',
        plugins: [new ExpirationPlugin({ maxEntries: 9 }), tokenPlugin()],
      }),
    }`,
    more,
  )

/** Everything in the caches, as any script of the origin can read it. */
const cachesIn = (page: Page): Promise<string[]> =>
  page.evaluate(async () => {
    const found: string[] = []
    for (const name of await caches.keys()) {
      const cache = await caches.open(name)
      for (const request of await cache.keys()) {
        const response = await cache.match(request)
        found.push(`${request.url} ${[...request.headers]} ${await response?.text()}`)
      }
    }
    return found
  })

/** Waits until there are so many entries in the caches: a strategy writes behind its answer. */
const whenCached = async (page: Page, count: number): Promise<string[]> => {
  for (;;) {
    const found = await cachesIn(page)
    if (found.length === count) return found
  }
}

/** The URLs that ExpirationPlugin has noted. */
const expirationsIn = (page: Page): Promise<unknown[]> =>
  page.evaluate(
    () =>
      new Promise((resolve, reject) => {
        const opening = indexedDB.open('workbox-expiration')
        opening.onerror = () => reject(opening.error)
        opening.onsuccess = () => {
          const db = opening.result
          const reading = db.transaction('cache-entries').objectStore('cache-entries').getAll()
          reading.onsuccess = () => {
            db.close()
            resolve(reading.result.map(({ url }) => url))
          }
        }
      }),
  )

const me = () => `${world.api.url}/me`
const subjectIn = async (page: Page): Promise<unknown> => {
  const { body, error } = await fetchIn(page, me())
  return error ?? (body as { sub?: string }).sub
}

describe('a strategy of Workbox with tokenPlugin()', () => {
  test('serves offline, after a restart and with an expired token, what it had (OF-02, IN-18)', async () => {
    await cacheOf('NetworkFirst')
    const context = await world.newProfile()
    const page = await openSignedIn(world, context)
    expect(await subjectIn(page)).toBe('alice')
    const [entry] = await whenCached(page, 1)
    expect(entry).toContain(`${me()}?__tokenward_user=`)
    expect(entry).not.toMatch(/authorization|bearer/i)
    await expireToken(world, page)
    await context.setOffline(true)
    await stopWorkers(page)
    expect(await subjectIn(page)).toBe('alice')
    expect(await sessionIn(page)).toMatchObject({ state: 'stale' })
    await context.setOffline(false)
    expect(await subjectIn(page)).toBe('alice')
    expect(refreshesAt(world.as)).toHaveLength(1)
    expect(await eventsIn(page)).not.toContain('signed-out ended')
  })

  test('waits for no token where the answer is in the cache (IN-13)', async () => {
    await cacheOf('StaleWhileRevalidate')
    const page = await openSignedIn(world)
    await subjectIn(page)
    await whenCached(page, 1)
    await expireToken(world, page)
    world.as.setFault({ path: '/token', kind: 'hang' })
    expect(await subjectIn(page)).toBe('alice')
    // It is asked for behind the answer.
    await world.as.waitForRequest(({ grantType }) => grantType === 'refresh_token')
  })

  test('renews and repeats after a 401, which is not kept (RF-15)', async () => {
    await cacheOf('CacheFirst')
    const page = await openSignedIn(world)
    world.as.expireAccessTokens()
    expect(await subjectIn(page)).toBe('alice')
    expect(requestsTo(world.api, '/me').map(({ status }) => status)).toEqual([401, 200])
    const [entry] = await whenCached(page, 1)
    expect(entry).toContain('alice')
    expect(await subjectIn(page)).toBe('alice')
    expect(requestsTo(world.api, '/me')).toHaveLength(2)
  })

  test("keeps one user's answers from the next, and nobody's after a logout (IN-16, SE-01)", async () => {
    await cacheOf('CacheFirst')
    const context = await world.newProfile()
    const page = await openSignedIn(world, context)
    expect(await subjectIn(page)).toBe('alice')
    await whenCached(page, 1)
    // Somebody else, without a logout in between.
    world.as.setAutoSignIn('bob')
    await signIn(page, { prompt: 'login consent' })
    expect(await cachesIn(page)).toEqual([])
    expect(await subjectIn(page)).toBe('bob')
    await whenCached(page, 1)
    // A worker that has not met the cache yet.
    await stopWorkers(page)
    await page.evaluate(() => window.auth.logout({ local: true }))
    expect(await cachesIn(page)).toEqual([])
    expect(await expirationsIn(page)).toEqual([])
    const { status } = await fetchIn(page, me())
    expect(status).toBe(401)
    expect(await cachesIn(page)).toEqual([])
  })

  test('does not keep an answer that comes after its user has gone (SE-07)', async () => {
    await cacheOf('NetworkFirst', { path: '/slow' })
    const page = await openSignedIn(world)
    const slow = `${world.api.url}/slow?ms=700`
    const asked = world.api.waitForRequest(({ path }) => path === '/slow')
    const answer = fetchIn(page, slow)
    await asked
    await page.evaluate(() => window.auth.logout({ local: true }))
    expect(await answer).toMatchObject({ status: 200 })
    // Behind the next answer is what would have been behind this one.
    await fetchIn(page, slow)
    expect(await cachesIn(page)).toEqual([])
  })

  test('leaves streams, parts of files and writes to the network', async () => {
    await cacheOf('CacheFirst', { path: '/' })
    const page = await openSignedIn(world)
    const streamed = await page.evaluate(
      (url) =>
        new Promise((resolve) => {
          const events = new EventSource(url)
          events.onmessage = ({ data }) => {
            events.close()
            resolve(data)
          }
        }),
      `${world.api.url}/stream?count=1000`,
    )
    expect(streamed).toBe('{"number":1}')
    const part = await fetchIn(page, `${world.api.url}/range`, { headers: { range: 'bytes=0-3' } })
    expect(part).toMatchObject({ status: 206, body: '0123' })
    await fetchIn(page, `${world.api.url}/orders`, { method: 'POST', body: '{}' })
    await fetchIn(page, `${world.api.url}/orders`)
    const [entry] = await whenCached(page, 1)
    expect(entry).toContain('/orders?__tokenward_user=')
  })

  test('sends proofs where tokens are bound to a key (DP-02, DP-06)', async () => {
    await cacheOf('NetworkFirst', { more: 'dpop: dpop(),' })
    const page = await openSignedIn(world)
    world.api.setDpopNonce('one')
    expect(await subjectIn(page)).toBe('alice')
    world.api.setDpopNonce('two')
    expect(await subjectIn(page)).toBe('alice')
    world.as.expireAccessTokens()
    expect(await subjectIn(page)).toBe('alice')
    expect(
      requestsTo(world.api, '/me').every(({ authorization }) => authorization === 'dpop'),
    ).toBe(true)
    expect((await whenCached(page, 1))[0]).not.toMatch(/dpop/i)
  })
})

describe('tokenQueue()', () => {
  const queueOf = (more = '') =>
    useEntry(`{
      url: '${world.api.url}/orders',
      queue: tokenQueue('orders', { replayed: note('replayed'), dropped: note('dropped'), ${more} }),
    }`)
  beforeEach(() => queueOf())

  const write = (
    page: Page,
    number: number,
    init: RequestInit = {},
    url = `${world.api.url}/orders`,
  ) =>
    page.evaluate(
      async ([url, init]) => {
        const response = await fetch(url, init)
        return `${response.status} ${response.headers.get('x-tokenward') ?? 'api'}`
      },
      [`${url}?${number}`, { method: 'POST', body: JSON.stringify({ number }), ...init }] as const,
    )

  /** What the worker has heard of its queue since it was started. */
  const newsIn = (page: Page): Promise<unknown[]> =>
    page.evaluate(
      () =>
        new Promise((resolve) => {
          const { port1, port2 } = new MessageChannel()
          port1.onmessage = ({ data }) => resolve(data)
          navigator.serviceWorker.controller?.postMessage('news', [port2])
        }),
    )

  const writesAt = () => requestsTo(world.api, '/orders').map(({ query }) => query)

  /** Everything that Workbox has on the disk, as any script of the origin can read it. */
  const storedIn = (page: Page): Promise<string> =>
    page.evaluate(
      () =>
        new Promise((resolve, reject) => {
          const opening = indexedDB.open('workbox-background-sync')
          opening.onerror = () => reject(opening.error)
          opening.onsuccess = () => {
            const db = opening.result
            const reading = db.transaction('requests').objectStore('requests').getAll()
            reading.onsuccess = () => {
              db.close()
              resolve(JSON.stringify(reading.result))
            }
          }
        }),
    )

  test('keeps writes without network, and sends them in order with a token of then (OF-05, OF-07)', async () => {
    const context = await world.newProfile()
    const page = await openSignedIn(world, context)
    expect(await write(page, 1)).toBe('200 api')
    await expireToken(world, page)
    await context.setOffline(true)
    for (const number of [2, 3]) expect(await write(page, number)).toBe('202 queued')
    await stopWorkers(page)
    for (const number of [4, 5]) expect(await write(page, number)).toBe('202 queued')
    const stored = await storedIn(page)
    expect(JSON.parse(stored)).toHaveLength(4)
    expect(stored).not.toMatch(/authorization|bearer/i)
    await context.setOffline(false)
    await world.api.waitForRequest(({ query, status }) => query === '5' && status === 200)
    expect(writesAt()).toEqual(['1', '2', '3', '4', '5'])
    expect(requestsTo(world.api, '/orders').map(({ status }) => status)).toEqual([
      200, 200, 200, 200, 200,
    ])
    expect(refreshesAt(world.as)).toHaveLength(1)
    expect(await write(page, 6)).toBe('200 api')
    expect(await newsIn(page)).toEqual([2, 3, 4, 5].map((n) => ['replayed', 'POST', `?${n}`, 200]))
    expect(await storedIn(page)).toBe('[]')
  })

  test('lets a failing API answer the page, and tries later what it has kept', async () => {
    await useEntry(`{
      url: '/flaky/',
      queue: tokenQueue('flaky', { replayed: note('replayed'), dropped: note('dropped') }),
    }`)
    const context = await world.newProfile()
    const page = await openSignedIn(world, context)
    const send = (number: number, init: RequestInit = {}) => write(page, number, init, '/flaky/')
    flaky.answer = 503
    expect(await send(1)).toBe('503 api')
    flaky.answer = 'cut'
    // The page has given up on this one, so it must not come later.
    const aborted = page.evaluate(() =>
      fetch('/flaky/?2', { method: 'PUT', signal: AbortSignal.abort() }).catch(
        (error) => error.name,
      ),
    )
    expect(await aborted).toBe('AbortError')
    expect(await send(3)).toBe('202 queued')
    flaky.answer = 503
    // Behind what waits, which is tried again.
    expect(await send(4)).toBe('202 queued')
    await expect.poll(() => flaky.answered).toContain('3 503')
    flaky.answer = 409
    await dispatchSync(page, world.url, `${world.databaseName} ${world.url} flaky`)
    await expect.poll(() => flaky.answered).toContain('4 409')
    expect(await newsIn(page)).toEqual([3, 4].map((n) => ['replayed', 'POST', `?${n}`, 409]))
    expect(flaky.answered.filter((answer) => answer.startsWith('2'))).toEqual([])
    flaky.answer = 200
    expect(await send(5)).toBe('200 api')
  })

  test('never sends what somebody else has written: it is dropped (SE-07, OF-07)', async () => {
    const context = await world.newProfile()
    const page = await openSignedIn(world, context)
    await expireToken(world, page)
    await context.setOffline(true)
    await write(page, 1)
    await page.close()
    // Alice's session is over, and it is bob who sits there when the network is back.
    world.as.revokeRefreshTokens()
    world.as.endSessions()
    world.as.setAutoSignIn('bob')
    await context.setOffline(false)
    const other = await openApp(context, world.url)
    await other.evaluate(() => window.auth.renew().catch(() => {}))
    expect(await sessionIn(other)).toBeUndefined()
    await signIn(other, { prompt: 'login consent' })
    for (let news: unknown[] = []; news.length === 0; news = await newsIn(other));
    expect(await newsIn(other)).toEqual([['dropped', 'POST', '?1', 'user_changed']])
    expect(await write(other, 2)).toBe('200 api')
    expect(writesAt()).toEqual(['2'])
  })

  test('drops what waits when its user signs out (SE-01)', async () => {
    const context = await world.newProfile()
    const page = await openSignedIn(world, context)
    await context.setOffline(true)
    await write(page, 1)
    await page.evaluate(() => window.auth.logout({ local: true }))
    expect(await newsIn(page)).toEqual([['dropped', 'POST', '?1', 'logout']])
    expect(await storedIn(page)).toBe('[]')
    await context.setOffline(false)
    expect(await write(page, 2)).toBe('401 api')
    expect(writesAt()).toEqual(['2'])
  })
})
