import type { Page } from 'playwright-core'
import { describe, expect, test } from 'vitest'
import {
  authorizationsAt,
  eventsOf,
  fetchIn,
  movableClock,
  openApp,
  openSignedIn,
  refreshesAt,
  requestsTo,
  shiftClock,
  signIn,
  startWorld,
  stopWorkers,
  useWorld,
} from '../support/world.js'

const world = useWorld({ beforeWorker: movableClock })

const hour = 3600

/** A refresh that the authorization server has been asked for, answered or not. */
const refreshArrives = () =>
  world.as.waitForRequest(({ grantType }) => grantType === 'refresh_token')

const me = (page: Page) => fetchIn(page, `${world.api.url}/me`)
const asAlice = { status: 200, body: { sub: 'alice' } }

const sessionOf = (page: Page) => page.evaluate(() => window.auth.session())

/** No refresh token that the server has answered is ever seen by it again. */
const expectNoReuse = () => {
  const answered = refreshesAt(world.as).filter(({ status }) => status)
  const tokens = answered.map(({ refreshToken }) => refreshToken)
  expect(new Set(tokens).size).toBe(tokens.length)
}

describe('a token that the API refuses', () => {
  test('is renewed, and the request sent once more (RF-15)', async () => {
    const page = await openSignedIn(world)
    expect(await me(page)).toMatchObject(asAlice)
    world.api.rejectCurrentTokens()
    world.api.clearRequests()
    expect(await me(page)).toMatchObject(asAlice)
    const [first, second, ...more] = requestsTo(world.api, '/me')
    expect([first?.status, second?.status, more]).toEqual([401, 200, []])
    expect(first?.tokenHash).not.toBe(second?.tokenHash)
    expect(refreshesAt(world.as)).toMatchObject([{ status: 200 }])
    // The new token is the one that everybody uses from now on.
    world.api.clearRequests()
    expect(await me(page)).toMatchObject(asAlice)
    expect(requestsTo(world.api, '/me')).toMatchObject([{ tokenHash: second?.tokenHash }])
  })

  test('costs no body: a megabyte arrives whole at the second try (IN-14)', async () => {
    const page = await openSignedIn(world)
    await me(page)
    world.api.rejectCurrentTokens()
    const text = '0123456789abcde\n'.repeat(65_536)
    const answers = await page.evaluate(
      async ([url, text]) => {
        const bodies = [text, new Blob([text]), new TextEncoder().encode(text)]
        return await Promise.all(
          bodies.map(async (body) => (await fetch(url, { method: 'PUT', body })).json()),
        )
      },
      [`${world.api.url}/orders/1`, text] as const,
    )
    const whole = { method: 'PUT', size: text.length, body: text }
    expect(answers).toMatchObject([whole, whole, whole])
    expect(refreshesAt(world.as)).toHaveLength(1)
  })

  test('keeps method, headers and referrer at the second try (IN-14)', async () => {
    const page = await openSignedIn(world)
    await me(page)
    world.api.rejectCurrentTokens()
    await fetchIn(page, `${world.api.url}/echo?q=1`, {
      method: 'PATCH',
      body: 'text',
      credentials: 'include',
      headers: { 'x-one': '1' },
      referrer: '/other',
      referrerPolicy: 'unsafe-url',
    })
    const requests = requestsTo(world.api, '/echo').map(({ method, query, headers }) => {
      const { authorization: _, ...rest } = headers
      return { method, query, headers: rest }
    })
    expect(requests).toHaveLength(2)
    expect(requests[1]).toEqual(requests[0])
    expect(requests[0]?.headers).toMatchObject({ referer: `${world.url}other`, 'x-one': '1' })
  })

  test('by one resource alone causes one renewal in 30 s, and hands back its 401 (RF-15)', async () => {
    const page = await openSignedIn(world)
    const url = `${world.api.url}/always-401`
    const refused = { status: 401, body: { status: 401, detail: 'invalid_token' } }
    expect(await fetchIn(page, url)).toEqual(refused)
    expect(requestsTo(world.api, '/always-401')).toHaveLength(2)
    for (let i = 0; i < 3; i++) expect(await fetchIn(page, url)).toEqual(refused)
    expect(await fetchIn(page, url, { method: 'POST', body: 'x' })).toEqual(refused)
    expect(requestsTo(world.api, '/always-401')).toHaveLength(6)
    expect(refreshesAt(world.as)).toHaveLength(1)
    expect(await me(page)).toMatchObject(asAlice)
    await shiftClock(page, 31)
    expect(await fetchIn(page, url)).toEqual(refused)
    expect(refreshesAt(world.as)).toHaveLength(2)
  })

  test('with a step-up challenge causes no renewal (RF-17)', async () => {
    const page = await openSignedIn(world)
    expect(await fetchIn(page, `${world.api.url}/step-up`)).toEqual({
      status: 401,
      body: { status: 401, detail: 'insufficient_user_authentication' },
    })
    expect(requestsTo(world.api, '/step-up')).toHaveLength(1)
    expect(refreshesAt(world.as)).toEqual([])
  })

  test('is no longer current: the request is sent again without a renewal (RF-15)', async () => {
    const page = await openSignedIn(world)
    await me(page)
    // This one is under way with the old token while another request renews it.
    const slow = fetchIn(page, `${world.api.url}/slow?ms=600`)
    await world.api.waitForRequest(({ path, method }) => path === '/slow' && method === 'GET')
    await page.evaluate(() => window.auth.renew())
    expect(await slow).toMatchObject({ status: 200 })
    expect(refreshesAt(world.as)).toHaveLength(1)
    await me(page)
    // And these get their 401 at different times, the last one when the renewal is over.
    world.api.rejectCurrentTokens()
    const answers = await Promise.all([
      me(page),
      fetchIn(page, `${world.api.url}/orders`),
      fetchIn(page, `${world.api.url}/slow?ms=50`),
    ])
    expect(answers.map(({ status }) => status)).toEqual([200, 200, 200])
    expect(refreshesAt(world.as)).toHaveLength(2)
    expectNoReuse()
  })
})

describe('a token that has expired', () => {
  test('is renewed before the request goes out (RF-13)', async () => {
    const page = await openSignedIn(world)
    await shiftClock(page, hour)
    expect(await me(page)).toMatchObject(asAlice)
    expect(requestsTo(world.api, '/me')).toMatchObject([{ status: 200 }])
    expect(refreshesAt(world.as)).toMatchObject([{ status: 200 }])
  })

  test('on the own origin too', async () => {
    const page = await openSignedIn(world)
    await shiftClock(page, hour)
    expect(await fetchIn(page, '/api/me')).toMatchObject(asAlice)
    expect(requestsTo(world.sameOriginApi, '/me')).toMatchObject([{ status: 200 }])
  })

  test('which the API knows but the clock does not, is renewed on the 401', async () => {
    world.as.setAccessTokenSeconds(1)
    const page = await openSignedIn(world)
    world.as.setAccessTokenSeconds(300)
    world.as.expireAccessTokens()
    expect(await me(page)).toMatchObject(asAlice)
    expect(refreshesAt(world.as)).toHaveLength(1)
  })

  test('soon: requests go on with it while it is renewed (RF-13, RF-14)', async () => {
    const page = await openSignedIn(world)
    await me(page)
    const [{ tokenHash: old } = {}] = requestsTo(world.api, '/me')
    await shiftClock(page, 270)
    world.as.setFault({ path: '/token', kind: 'delay', ms: 700 })
    const renewed = page.evaluate(
      () =>
        new Promise<void>((resolve) => {
          window.auth.onChange(({ type }) => type === 'renewed' && resolve())
        }),
    )
    world.api.clearRequests()
    expect(await me(page)).toMatchObject(asAlice)
    expect(requestsTo(world.api, '/me')).toMatchObject([{ tokenHash: old }])
    expect((await refreshArrives()).status).toBe(undefined)
    await renewed
    world.api.clearRequests()
    expect(await me(page)).toMatchObject(asAlice)
    const [{ tokenHash: next } = {}] = requestsTo(world.api, '/me')
    expect(next).not.toBe(old)
    expect(refreshesAt(world.as)).toHaveLength(1)
  })

  test('sooner than the leeway: one that lives 2 s is not renewed in a loop (RF-13)', async () => {
    world.as.setAccessTokenSeconds(2)
    const page = await openSignedIn(world)
    for (let i = 0; i < 5; i++) expect(await me(page)).toMatchObject(asAlice)
    expect(refreshesAt(world.as).length).toBeLessThanOrEqual(1)
  })
})

describe('one renewal for everybody', () => {
  const twenty = (page: Page) =>
    page.evaluate(async (url) => {
      const calls = Array.from({ length: 20 }, () => fetch(url).then(({ status }) => status))
      return await Promise.all(calls)
    }, `${world.api.url}/me`)
  const allWell = Array.from({ length: 20 }, () => 200)

  test('20 requests at once on an expired token: one token request (RF-01)', async () => {
    const page = await openSignedIn(world)
    await shiftClock(page, hour)
    expect(await twenty(page)).toEqual(allWell)
    expect(refreshesAt(world.as)).toHaveLength(1)
  })

  test('20 requests at once on a refused token: one token request (RF-01)', async () => {
    const page = await openSignedIn(world)
    await me(page)
    world.api.rejectCurrentTokens()
    expect(await twenty(page)).toEqual(allWell)
    expect(refreshesAt(world.as)).toHaveLength(1)
  })

  test('five tabs with 20 calls each on an expired token: one token request (RF-01)', async () => {
    const context = await world.newProfile()
    const first = await openSignedIn(world, context)
    const others = await Promise.all([1, 2, 3, 4].map(() => openApp(context, world.url)))
    await shiftClock(first, hour)
    const answers = await Promise.all([first, ...others].map(twenty))
    expect(answers).toEqual([allWell, allWell, allWell, allWell, allWell])
    expect(refreshesAt(world.as)).toMatchObject([{ status: 200 }])
    expect(await eventsOf(first, 'renewed')).toHaveLength(1)
  })

  test('five tabs with 20 calls each, three times over on refused tokens (RF-01)', async () => {
    const context = await world.newProfile()
    const first = await openSignedIn(world, context)
    const others = await Promise.all([1, 2, 3, 4].map(() => openApp(context, world.url)))
    await me(first)
    for (let round = 1; round <= 3; round++) {
      world.api.rejectCurrentTokens()
      const answers = await Promise.all([first, ...others].map(twenty))
      expect(answers).toEqual([allWell, allWell, allWell, allWell, allWell])
      expect(refreshesAt(world.as)).toHaveLength(round)
    }
    expectNoReuse()
  })

  test('a call of renew() and requests that wait share it (RF-01)', async () => {
    const page = await openSignedIn(world)
    await shiftClock(page, hour)
    await Promise.all([
      page.evaluate(() => window.auth.renew()),
      page.evaluate(() => window.auth.renew()),
      me(page),
    ])
    expect(refreshesAt(world.as)).toHaveLength(1)
  })
})

describe('rotation', () => {
  test('each refresh uses the newest refresh token (RF-04)', async () => {
    const page = await openSignedIn(world)
    for (let i = 0; i < 4; i++) await page.evaluate(() => window.auth.renew())
    const refreshes = refreshesAt(world.as)
    expect(refreshes.map(({ status }) => status)).toEqual([200, 200, 200, 200])
    expectNoReuse()
  })

  test('an answer without a refresh token leaves the old one in use (RF-03)', async () => {
    const page = await openSignedIn(world)
    const body = { access_token: 'only-this', token_type: 'Bearer', expires_in: 300 }
    const grantType = 'refresh_token'
    world.as.setFault({ path: '/token', grantType, kind: 'status', status: 200, body, times: 1 })
    await page.evaluate(() => window.auth.renew())
    // The API does not know this token, so it is renewed again, with the refresh token of before.
    expect(await me(page)).toMatchObject(asAlice)
    const [first, second] = refreshesAt(world.as)
    expect([first?.status, second?.status]).toEqual([200, 200])
    expect(second?.refreshToken).toBe(first?.refreshToken)
  })

  test('a server that does not rotate gets the same refresh token again (RF-03)', async () => {
    const other = await startWorld({ server: { rotate: false } })
    try {
      const page = await openSignedIn(other)
      for (let i = 0; i < 3; i++) await page.evaluate(() => window.auth.renew())
      const refreshes = refreshesAt(other.as)
      expect(refreshes.map(({ status }) => status)).toEqual([200, 200, 200])
      expect(new Set(refreshes.map(({ refreshToken }) => refreshToken)).size).toBe(1)
    } finally {
      await other.close()
    }
  })
})

describe('a worker that the browser stops', () => {
  test('goes on with the tokens from the disk after signing in (TK-12)', async () => {
    const page = await openSignedIn(world)
    await stopWorkers(page)
    expect(await me(page)).toMatchObject(asAlice)
    expect(requestsTo(world.api, '/me')).toMatchObject([{ status: 200, authorization: 'bearer' }])
    expect(refreshesAt(world.as)).toEqual([])
  })

  test('between requests and renewals loses nothing (RF-03)', async () => {
    const page = await openSignedIn(world)
    for (let i = 0; i < 3; i++) {
      world.api.rejectCurrentTokens()
      expect(await me(page)).toMatchObject(asAlice)
      await stopWorkers(page)
    }
    await page.evaluate(() => window.auth.renew())
    await stopWorkers(page)
    expect(await me(page)).toMatchObject(asAlice)
    expectNoReuse()
  })

  test('right after the answer of a request: the new tokens are on the disk (TK-12)', async () => {
    const page = await openSignedIn(world)
    await shiftClock(page, hour)
    expect(await me(page)).toMatchObject(asAlice)
    await stopWorkers(page)
    expect(await me(page)).toMatchObject(asAlice)
    await page.evaluate(() => window.auth.renew())
    expectNoReuse()
  })

  test('during a refresh: the request is answered all the same (RF-05)', async () => {
    const page = await openSignedIn(world)
    await me(page)
    world.api.rejectCurrentTokens()
    // The server has not acted when its client goes away, so the refresh token is still good.
    world.as.setFault({
      path: '/token',
      grantType: 'refresh_token',
      kind: 'delay',
      ms: 1000,
      times: 1,
    })
    const answer = me(page)
    await refreshArrives()
    await stopWorkers(page)
    // The browser gives the request to the next worker.
    expect(await answer).toMatchObject(asAlice)
    expect((await sessionOf(page))?.state).toBe('fresh')
    expectNoReuse()
    await page.evaluate(() => window.auth.renew())
    expectNoReuse()
  })

  test('while requests of three tabs wait: all are answered (RF-01, RF-05)', async () => {
    const context = await world.newProfile()
    const page = await openSignedIn(world, context)
    const others = await Promise.all([openApp(context, world.url), openApp(context, world.url)])
    await me(page)
    world.api.rejectCurrentTokens()
    world.as.setFault({
      path: '/token',
      grantType: 'refresh_token',
      kind: 'delay',
      ms: 1000,
      times: 1,
    })
    const answers = Promise.all([page, ...others].map(me))
    await refreshArrives()
    await stopWorkers(page)
    expect(await answers).toMatchObject([asAlice, asAlice, asAlice])
    expect(refreshesAt(world.as).filter(({ status }) => status)).toMatchObject([{ status: 200 }])
  })

  test('during the callback: another page signs in, and no code is used twice (CB-06)', async () => {
    const context = await world.newProfile()
    const page = await openApp(context, world.url)
    const other = await openApp(context, world.url)
    const grantType = 'authorization_code'
    world.as.setFault({ path: '/token', grantType, kind: 'hang', times: 1 })
    await page.evaluate(() => {
      window.auth.login().catch(() => {})
    })
    await world.as.waitForRequest((request) => request.grantType === grantType)
    await stopWorkers(other)
    // The browser leaves the other tab to hang; nobody is signed in by half.
    expect(await sessionOf(other)).toBe(undefined)
    await signIn(other)
    expect(await me(other)).toMatchObject(asAlice)
    const exchanges = world.as.requests.filter((request) => request.grantType === grantType)
    expect(exchanges.map(({ status }) => status)).toEqual([0, 200])
  })

  test('during a sign-in in another tab: both tabs are signed in', async () => {
    const context = await world.newProfile()
    const page = await openSignedIn(world, context)
    await stopWorkers(page)
    const second = await openApp(context, world.url)
    await signIn(second)
    await stopWorkers(page)
    expect(await me(page)).toMatchObject(asAlice)
    expect(await me(second)).toMatchObject(asAlice)
    await page.evaluate(() => window.auth.renew())
    expect(refreshesAt(world.as)).toMatchObject([{ status: 200 }])
  })
})

describe('a server that cannot answer costs no session', () => {
  /** Expired, and no token to be had: the request fails as if there was no network. */
  const expectStale = async (page: Page) => {
    world.api.clearRequests()
    expect(await me(page)).toEqual({ error: 'TypeError' })
    // Never sent without a token either.
    expect(requestsTo(world.api, '/me')).toEqual([])
    const session = await sessionOf(page)
    expect(session).toMatchObject({ state: 'stale', claims: { sub: 'alice' } })
    expect(await eventsOf(page, 'signed-out')).toEqual([])
  }

  /** With the trouble and the pause after it over, the next request gets its token. */
  const expectWell = async (page: Page, clock: number) => {
    await shiftClock(page, clock)
    expect(await me(page)).toMatchObject(asAlice)
    expect((await sessionOf(page))?.state).toBe('fresh')
  }

  test('down (RF-06, OF-03)', async () => {
    const page = await openSignedIn(world)
    await shiftClock(page, hour)
    await world.as.stop()
    try {
      await expectStale(page)
    } finally {
      await world.as.start()
    }
    await expectWell(page, hour + 120)
    expect(authorizationsAt(world.as).length).toBeLessThanOrEqual(1)
  })

  test.each([
    ['503', { kind: 'status', status: 503 }],
    ['429', { kind: 'status', status: 429, body: { error: 'slow_down' } }],
    ['500 without a body', { kind: 'status', status: 500, body: '' }],
    ['a captive portal', { kind: 'html' }],
    ['a connection that is cut', { kind: 'drop-before' }],
    [
      'an answer that CORS hides',
      { kind: 'status', headers: { 'access-control-allow-origin': undefined } },
    ],
    ['broken JSON', { kind: 'status', status: 200, body: '{"access_token":' }],
    ['400 with an error nobody knows', { kind: 'status', status: 400, body: { error: 'odd' } }],
  ] as const)('%s (RF-06, TK-04)', async (_, fault) => {
    const page = await openSignedIn(world)
    await shiftClock(page, hour)
    world.as.setFault({ path: '/token', ...fault })
    await expectStale(page)
    // In the pause after it, requests fail at once and the server is left in peace.
    const before = refreshesAt(world.as).length
    await expectStale(page)
    expect(refreshesAt(world.as).length - before).toBeLessThanOrEqual(1)
    world.as.setFault(undefined)
    await expectWell(page, hour + 120)
  })

  test('Retry-After is honoured (RF-06)', async () => {
    const page = await openSignedIn(world)
    await shiftClock(page, hour)
    const headers = { 'retry-after': '100', 'access-control-expose-headers': 'retry-after' }
    world.as.setFault({ path: '/token', kind: 'status', status: 503, headers })
    await expectStale(page)
    world.as.setFault(undefined)
    await shiftClock(page, hour + 90)
    await expectStale(page)
    expect(refreshesAt(world.as)).toHaveLength(1)
    // The random part of the pause comes on top: up to 2 s.
    await expectWell(page, hour + 103)
  })

  test('silent for ever: given up in time (RF-06, TK-01)', async () => {
    // A tenth of each time limit is enough to see that there is one.
    const hurry = `
      const { setTimeout: realTimeout } = self
      self.setTimeout = (work, ms) => realTimeout(work, ms >= 5000 ? ms / 10 : ms)`
    world.useWorker('', hurry)
    const page = await openSignedIn(world)
    await shiftClock(page, hour)
    world.as.setFault({ path: '/token', kind: 'hang' })
    await expectStale(page)
    world.as.setFault(undefined)
    await expectWell(page, hour + 120)
  })

  test('offline (OF-01, OF-03)', async () => {
    const page = await openSignedIn(world)
    await shiftClock(page, hour)
    await page.context().setOffline(true)
    await expectStale(page)
    await expectStale(page)
    await page.context().setOffline(false)
    expect(await me(page)).toMatchObject(asAlice)
    expect(refreshesAt(world.as)).toMatchObject([{ status: 200 }])
  })

  test('a refused token with no renewal to be had: a network error, not a 401 (OF-03)', async () => {
    const page = await openSignedIn(world)
    await me(page)
    world.api.rejectCurrentTokens()
    world.as.setFault({ path: '/token', kind: 'status', status: 503 })
    expect(await me(page)).toEqual({ error: 'TypeError' })
    expect(await sessionOf(page)).toMatchObject({ claims: { sub: 'alice' } })
  })
})

describe('a wrong clock', () => {
  test.each([
    ['an hour fast', hour],
    ['an hour slow', -hour],
    ['a day fast', 24 * hour - 60],
  ])('%s costs one refresh and nothing else (RF-12)', async (_, seconds) => {
    const page = await openSignedIn(world)
    await shiftClock(page, seconds)
    for (let i = 0; i < 3; i++) expect(await me(page)).toMatchObject(asAlice)
    expect(refreshesAt(world.as)).toMatchObject([{ status: 200 }])
    expect(await sessionOf(page)).toMatchObject({ state: 'fresh', claims: { sub: 'alice' } })
    expect(await eventsOf(page, 'problem')).toEqual([])
  })

  test('that is set right again costs one refresh more (RF-12)', async () => {
    const page = await openSignedIn(world)
    await shiftClock(page, hour)
    expect(await me(page)).toMatchObject(asAlice)
    await shiftClock(page, 0)
    for (let i = 0; i < 3; i++) expect(await me(page)).toMatchObject(asAlice)
    expect(refreshesAt(world.as).map(({ status }) => status)).toEqual([200, 200])
    expectNoReuse()
  })

  test('that is weeks off: the new tokens are used, the old claims kept (RF-12)', async () => {
    const page = await openSignedIn(world)
    await shiftClock(page, 30 * 24 * hour)
    expect(await me(page)).toMatchObject(asAlice)
    await page.evaluate(() => window.auth.renew())
    expect(refreshesAt(world.as).map(({ status }) => status)).toEqual([200, 200])
    expect(await sessionOf(page)).toMatchObject({ claims: { sub: 'alice' } })
    expect(await eventsOf(page, 'signed-out')).toEqual([])
    expectNoReuse()
  })

  test('while signing in costs nothing (TK-06)', async () => {
    const page = await openApp(await world.newProfile(), world.url)
    for (const seconds of [hour, -hour]) {
      await shiftClock(page, seconds)
      await signIn(page)
      expect(await me(page)).toMatchObject(asAlice)
    }
    expect(refreshesAt(world.as)).toEqual([])
  })
})

test('a renewal is told to every tab', async () => {
  const context = await world.newProfile()
  const first = await openSignedIn(world, context)
  const second = await openApp(context, world.url)
  await first.evaluate(() => window.auth.renew())
  await second.waitForFunction(() => window.events.some(({ type }) => type === 'renewed'))
  const session = { state: 'fresh', claims: { sub: 'alice' } }
  expect(await eventsOf(second, 'renewed')).toMatchObject([{ session }])
})
