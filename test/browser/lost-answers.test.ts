import type { Page } from 'playwright-core'
import { describe, expect, test } from 'vitest'
import {
  authorizationsAt,
  eventsIn,
  eventsOf,
  expireToken,
  fetchIn,
  heard,
  movableClock,
  openSignedIn,
  recordIn,
  refreshesAt,
  requestsTo,
  sessionIn,
  shiftClock,
  signIn,
  startWorld,
  useWorld,
  type World,
} from '../support/world.js'

/** Counts what the worker itself sends, which is not always what the server gets. */
const countFetches = `
  const realFetch = self.fetch
  self.refreshFetches = 0
  self.fetch = (input, init) => {
    if (String(init?.body).includes('grant_type=refresh_token')) self.refreshFetches++
    return realFetch(input, init)
  }`

const beforeWorker = movableClock + countFetches

/** Consent outlives a grant here, as it does at most servers. */
const world = useWorld({ beforeWorker, server: { consentRemembered: true } })
/** Here it is gone with the grant: oidc-provider as it comes. */
const strict = useWorld({ beforeWorker })

const asAlice = { status: 200, body: { sub: 'alice' } }
const me = (page: Page, { api }: World = world) => fetchIn(page, `${api.url}/me`)

const fetchesBy = async (page: Page): Promise<number> => {
  const [worker] = page.context().serviceWorkers()
  return Number(await worker?.evaluate('self.refreshFetches'))
}

/** A page with an expired token, whose worker has just had an answer on a connection it keeps. */
const openWarm = async (world: World): Promise<Page> => {
  const page = await openSignedIn(world)
  await page.evaluate(() => window.auth.renew())
  await expireToken(world, page)
  world.as.clearRequests()
  return page
}

/** The same, with no connection to the server open. */
const openCold = async (world: World): Promise<Page> => {
  const page = await openWarm(world)
  await world.as.stop()
  await world.as.start()
  return page
}

const lose = (world: World, times: number) =>
  world.as.setFault({ path: '/token', grantType: 'refresh_token', kind: 'drop-after', times })

const tokensSeen = ({ as }: World) => new Set(refreshesAt(as).map((each) => each.refreshToken))

const silentAttempts = ({ as }: World) =>
  authorizationsAt(as).filter(({ query }) => query.includes('prompt=none'))

const nobodyIsBothered = async (page: Page) => {
  const alarms = (await eventsIn(page)).filter((event) => /^(signed-|login-)/.test(event))
  expect(alarms).toEqual([])
}

/** Nobody has noticed anything, and the next renewal goes well, too. */
const expectWell = async (page: Page) => {
  await nobodyIsBothered(page)
  expect(await sessionIn(page)).toMatchObject({ state: 'fresh', claims: { sub: 'alice' } })
  await page.evaluate(() => window.auth.renew())
  expect(await me(page)).toMatchObject(asAlice)
}

/** The next request, when the pause after a failure is over. */
const afterThePause = async (page: Page) => {
  await shiftClock(page, 120)
  expect(await me(page)).toMatchObject(asAlice)
}

describe('an answer that is lost on a connection that was used before', () => {
  test('is asked for twice by the browser itself; a silent login repairs it (RF-07)', async () => {
    const page = await openWarm(world)
    lose(world, 1)
    const before = await fetchesBy(page)
    expect(await me(page)).toMatchObject(asAlice)
    // One fetch, two requests: the second is reuse, and the server has revoked everything.
    expect((await fetchesBy(page)) - before).toBe(1)
    expect(refreshesAt(world.as).map(({ status }) => status)).toEqual([0, 400])
    expect(tokensSeen(world).size).toBe(1)
    expect(silentAttempts(world)).toHaveLength(1)
    await expectWell(page)
  })

  test('and again when the browser sends it again: repaired by the next request (RF-07)', async () => {
    const page = await openWarm(world)
    await page.evaluate(() => window.auth.checkSession())
    await expireToken(world, page)
    world.as.clearRequests()
    lose(world, 2)
    const before = await fetchesBy(page)
    expect(await me(page)).toEqual({ error: 'TypeError' })
    expect((await fetchesBy(page)) - before).toBe(1)
    expect(refreshesAt(world.as).map(({ status }) => status)).toEqual([0, 0])
    expect(await sessionIn(page)).toMatchObject({ state: 'stale', claims: { sub: 'alice' } })
    await afterThePause(page)
    // The token is known to be doubtful, so it is not sent a third time.
    expect(refreshesAt(world.as)).toHaveLength(2)
    expect(silentAttempts(world)).toHaveLength(1)
    await expectWell(page)
  })

  test('where the consent is gone with the grant: the session ends for good (SI-05)', async () => {
    const page = await openWarm(strict)
    lose(strict, 1)
    strict.api.clearRequests()
    const before = await fetchesBy(page)
    expect(await me(page, strict)).toMatchObject({
      status: 401,
      body: { detail: 'A token is needed' },
    })
    expect((await fetchesBy(page)) - before).toBe(1)
    expect(refreshesAt(strict.as).map(({ status }) => status)).toEqual([0, 400])
    expect(silentAttempts(strict)).toHaveLength(1)
    expect(requestsTo(strict.api, '/me')).toMatchObject([{ authorization: 'none' }])
    await heard(page, 'signed-out ended')
    expect(await eventsOf(page, 'signed-out')).toEqual([
      { type: 'signed-out', reason: 'ended', code: 'consent_required' },
    ])
    expect(await sessionIn(page)).toBe(undefined)
    expect(await recordIn(strict, page)).toMatchObject({ status: 'ended', reason: 'ended' })
    // And with the user there, it is as ever.
    await signIn(page)
    expect(await me(page, strict)).toMatchObject(asAlice)
  })

  test('is no loss where the server does not rotate (RF-03)', async () => {
    const plain = await startWorld({ beforeWorker, server: { rotate: false } })
    try {
      const page = await openWarm(plain)
      lose(plain, 1)
      expect(await me(page, plain)).toMatchObject(asAlice)
      expect(refreshesAt(plain.as).map(({ status }) => status)).toEqual([0, 200])
      expect(authorizationsAt(plain.as)).toEqual([])
      await nobodyIsBothered(page)
    } finally {
      await plain.close()
    }
  })
})

describe('an answer that is lost on a new connection', () => {
  test('is asked for once; where silent logins are not known to work, the token goes again (RF-07)', async () => {
    const page = await openCold(world)
    lose(world, 1)
    expect(await me(page)).toEqual({ error: 'TypeError' })
    expect(refreshesAt(world.as).map(({ status }) => status)).toEqual([0])
    expect(await recordIn(world, page)).toMatchObject({ refreshSentAt: expect.any(Number) })
    expect(await sessionIn(page)).toMatchObject({ state: 'stale' })
    await afterThePause(page)
    expect(refreshesAt(world.as).map(({ status }) => status)).toEqual([0, 400])
    expect(silentAttempts(world)).toHaveLength(1)
    await expectWell(page)
  })

  test('where they are, the token stays where it is, also at a strict server (RF-07)', async () => {
    const page = await openWarm(strict)
    await page.evaluate(() => window.auth.checkSession())
    await strict.as.stop()
    await strict.as.start()
    // Twice, since the answer that a silent login brings leaves the refresh token as it was.
    for (let round = 1; round <= 2; round++) {
      await expireToken(strict, page)
      lose(strict, 1)
      if (round === 1) {
        expect(await me(page, strict)).toEqual({ error: 'TypeError' })
        await shiftClock(page, 120)
      }
      expect(await me(page, strict)).toMatchObject(asAlice)
      expect(refreshesAt(strict.as)).toHaveLength(1)
    }
    await nobodyIsBothered(page)
  })
})

describe('an answer that is none keeps the session, and the next request succeeds', () => {
  const long = JSON.stringify({ access_token: 'x'.repeat(300_000), token_type: 'Bearer' })

  test.each([
    ['cut in the middle', { kind: 'truncate' }, 1],
    ['longer than 256 KiB', { kind: 'status', status: 200, body: long }, 1],
    ['400 without a body', { kind: 'status', status: 400, body: '' }, 1],
    ['408, after which the browser asks again', { kind: 'status', status: 408, body: '' }, 2],
  ] as const)('%s (RF-06, TK-04)', async (_, fault, requests) => {
    const page = await openWarm(world)
    world.api.clearRequests()
    const before = await fetchesBy(page)
    world.as.setFault({ path: '/token', grantType: 'refresh_token', ...fault })
    expect(await me(page)).toEqual({ error: 'TypeError' })
    expect((await fetchesBy(page)) - before).toBe(1)
    expect(refreshesAt(world.as)).toHaveLength(requests)
    expect(requestsTo(world.api, '/me')).toEqual([])
    expect(await sessionIn(page)).toMatchObject({ state: 'stale', claims: { sub: 'alice' } })
    world.as.setFault(undefined)
    await afterThePause(page)
    await expectWell(page)
  })

  test('429 with Retry-After, for as long as it says and little longer (RF-06)', async () => {
    const page = await openWarm(world)
    const headers = { 'retry-after': '90', 'access-control-expose-headers': 'retry-after' }
    world.as.setFault({ path: '/token', kind: 'status', status: 429, headers })
    expect(await me(page)).toEqual({ error: 'TypeError' })
    await shiftClock(page, 85)
    expect(await me(page)).toEqual({ error: 'TypeError' })
    expect(refreshesAt(world.as)).toHaveLength(1)
    world.as.setFault(undefined)
    await shiftClock(page, 93)
    expect(await me(page)).toMatchObject(asAlice)
    expect(refreshesAt(world.as).map(({ status }) => status)).toEqual([429, 200])
    await expectWell(page)
  })
})
