import type { Page } from 'playwright-core'
import { describe, expect, test } from 'vitest'
import { limit } from '../support/machine.mjs'
import {
  authorizationsAt,
  eventsIn,
  expireToken,
  fetchIn,
  heard,
  openApp,
  openSignedIn,
  recordIn,
  refreshesAt,
  requestsTo,
  sessionIn,
  stopWorkers,
  useWorld,
} from '../support/world.js'

const world = useWorld()

const asAlice = { status: 200, body: { sub: 'alice' } }
const me = (page: Page) => fetchIn(page, `${world.api.url}/me`)

/** As many tabs whose access token has expired, and that have lost the network. */
const openOffline = async (count = 1): Promise<Page[]> => {
  const first = await openSignedIn(world)
  const open = () => openApp(first.context(), world.url)
  const pages = [first, ...(await Promise.all(Array.from({ length: count - 1 }, open)))]
  await expireToken(world, first)
  world.as.clearRequests()
  await first.context().setOffline(true)
  return pages
}

const alarmsIn = async (page: Page) =>
  (await eventsIn(page)).filter((event) => /^(signed-|login-|problem)/.test(event))

describe('offline, with an expired token', () => {
  test('requests fail at once, as without a worker (OF-03, IN-13)', async () => {
    const [page] = (await openOffline()) as [Page]
    const [worker] = page.context().serviceWorkers()
    // The worker knows it, too, and not from its requests.
    expect(await worker?.evaluate('navigator.onLine')).toBe(false)
    for (let i = 0; i < 3; i++) {
      const start = performance.now()
      expect(await me(page)).toEqual({ error: 'TypeError' })
      expect(performance.now() - start).toBeLessThan(limit(1_000))
    }
    expect(requestsTo(world.api, '/me')).toEqual([])
    expect(refreshesAt(world.as)).toEqual([])
  })

  test('the session is there and stale, and nobody is asked to do anything (OF-01, OF-02)', async () => {
    const [page] = (await openOffline()) as [Page]
    await me(page)
    await page.evaluate(() => window.auth.renew().catch(() => {}))
    expect(await sessionIn(page)).toMatchObject({ state: 'stale', claims: { sub: 'alice' } })
    expect(await alarmsIn(page)).toEqual([])
  })

  test('a worker that is started then does the same (OF-02, OF-03)', async () => {
    const [page] = (await openOffline()) as [Page]
    await stopWorkers(page)
    expect(await sessionIn(page)).toMatchObject({ state: 'stale', claims: { sub: 'alice' } })
    expect(await me(page)).toEqual({ error: 'TypeError' })
    expect(await alarmsIn(page)).toEqual([])
  })

  test('back online the next request renews once, with no pause before (OF-01, RF-06)', async () => {
    const [page] = (await openOffline()) as [Page]
    for (let i = 0; i < 5; i++) await me(page)
    await page.context().setOffline(false)
    expect(await Promise.all([me(page), me(page), me(page)])).toMatchObject([
      asAlice,
      asAlice,
      asAlice,
    ])
    expect(refreshesAt(world.as)).toMatchObject([{ status: 200 }])
    expect(authorizationsAt(world.as)).toEqual([])
    expect(await sessionIn(page)).toMatchObject({ state: 'fresh' })
    expect(await alarmsIn(page)).toEqual([])
  })
})

describe('a token of which nobody knows whether it was replaced', () => {
  test('waits for the network like any other (RF-07, SI-09)', async () => {
    const page = await openSignedIn(world)
    await page.evaluate(() => window.auth.checkSession())
    await expireToken(world, page)
    world.as.clearRequests()
    world.as.setFault({ path: '/token', grantType: 'refresh_token', kind: 'hang' })
    const answer = me(page)
    await world.as.waitForRequest(({ fault }) => fault === 'hang')
    // The network goes, and the answer with it.
    await page.context().setOffline(true)
    // Even now the browser would send it again on its own.
    world.as.setFault({ path: '/token', kind: 'drop-before' })
    await world.as.stop()
    await world.as.start()
    expect(await answer).toEqual({ error: 'TypeError' })
    expect(await recordIn(world, page)).toMatchObject({ refreshSentAt: expect.any(Number) })
    expect(await me(page)).toEqual({ error: 'TypeError' })
    expect(await sessionIn(page)).toMatchObject({ state: 'stale' })
    expect(await alarmsIn(page)).toEqual([])
    await page.context().setOffline(false)
    world.as.setFault(undefined)
    world.as.clearRequests()
    expect(await me(page)).toMatchObject(asAlice)
    // Silently first: the refresh token is not sent again.
    expect(refreshesAt(world.as)).toEqual([])
    expect(authorizationsAt(world.as)).toHaveLength(1)
  })
})

describe('the browser is back online', () => {
  test('five tabs: one renewal within seconds, and no request needed (OF-05)', async () => {
    const pages = await openOffline(5)
    const [first] = pages as [Page]
    await first.context().setOffline(false)
    await world.as.waitForRequest(
      ({ grantType, status }) => grantType === 'refresh_token' && status === 200,
    )
    for (const page of pages) await heard(page, 'renewed')
    expect(await sessionIn(first)).toMatchObject({ state: 'fresh' })
    expect(refreshesAt(world.as)).toHaveLength(1)
    expect(await me(first)).toMatchObject(asAlice)
    expect(refreshesAt(world.as)).toHaveLength(1)
    expect(requestsTo(world.api, '/me')).toHaveLength(1)
  })

  test('with a fresh token: there is nothing to renew (OF-05)', async () => {
    const page = await openSignedIn(world)
    world.as.clearRequests()
    await page.context().setOffline(true)
    await page.context().setOffline(false)
    // Longer than the longest delay, since nothing happens for which a test could wait.
    await page.waitForTimeout(3_500)
    expect(refreshesAt(world.as)).toEqual([])
    expect(await me(page)).toMatchObject(asAlice)
    expect(refreshesAt(world.as)).toEqual([])
  })
})
