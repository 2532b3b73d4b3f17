import { setTimeout as delay } from 'node:timers/promises'
import type { Page } from 'playwright-core'
import { describe, expect, test } from 'vitest'
import { limit } from '../support/machine.mjs'
import {
  authorizationsAt,
  eventsIn,
  expireToken,
  fetchIn,
  openSignedIn,
  recordIn,
  refreshesAt,
  requestsTo,
  signIn,
  soonGivenUp,
  startWorld,
  stopWorkers,
  useWorld,
  type World,
  type WorldOptions,
  workerStopper,
} from '../support/world.js'

const world = useWorld({
  server: { consentRemembered: true, issueRefreshTokenAlways: true },
  workerOptions: soonGivenUp(2),
})

const asAlice = { status: 200, body: { sub: 'alice' } }
const me = ({ api }: World, page: Page) => fetchIn(page, `${api.url}/me`)

/** How long the authorization server takes over a refresh, in ms. */
const serverTime = 120

/** What spoils the access token, and when the server acts: after its time, or before it. */
type Way = ['expired' | 'refused', 'delay' | 'delay-after']

/** How far the refresh was when the worker was stopped, as far as the server can tell. */
type Phase = 'not asked' | 'asked' | 'acted' | 'answered'

interface Stop {
  phase: Phase
  /** The next worker could not know what had become of the refresh token. */
  unknown: boolean
  /** The request had been answered before. */
  over: boolean
}

/** What somebody would have to do something about. */
const alarmsIn = async (page: Page) =>
  (await eventsIn(page)).filter((event) => /^(signed-out|login-required)/.test(event))

/** Sends a request on a spoilt token, stops the worker at a moment, and looks for a loss. */
const stopAt = async (
  world: World,
  page: Page,
  [token, kind]: Way,
  moment: () => Promise<unknown>,
): Promise<Stop> => {
  const { as, api } = world
  const { stop, detach } = await workerStopper(page)
  if (token === 'expired') await expireToken(world, page)
  else await me(world, page).then(api.rejectCurrentTokens)
  as.clearRequests()
  api.clearRequests()
  as.setFault({ path: '/token', grantType: 'refresh_token', kind, ms: serverTime, times: 1 })
  let over = false
  const answer = me(world, page).finally(() => {
    over = true
  })
  await moment()
  const [refresh] = refreshesAt(as)
  const asked = kind === 'delay' ? 'asked' : 'acted'
  const phase = !refresh ? 'not asked' : refresh.status === undefined ? asked : 'answered'
  const at = { phase, over } as const
  await stop()
  await detach()
  // The browser gives the request to the next worker; an answer of the API that is on its way to
  // the page just then is lost, as with any network error.
  const first = await answer
  const lost = first.error && requestsTo(api, '/me').some(({ status }) => status === 200)
  if (!lost) expect(first).toMatchObject(asAlice)
  expect(await me(world, page)).toMatchObject(asAlice)
  expect(await alarmsIn(page)).toEqual([])
  const unknown = authorizationsAt(as).length > 0 || refreshesAt(as).length > 1
  // A token of unknown fate is not sent again while silent logins do: back to one that is.
  if ((await recordIn(world, page)).refreshSentAt !== undefined) await signIn(page)
  return { ...at, unknown }
}

/** A stop at once, after 20 ms, and so on, until the request has been answered before it. */
const sweep = async (world: World, page: Page, ways: Way[]): Promise<Stop[]> => {
  const stops: Stop[] = []
  for (const way of ways) {
    let last: Stop | undefined
    for (let ms = 0; !last?.over; ms += 20) {
      // At 0 even this process does nothing in between.
      last = await stopAt(world, page, way, async () => {
        if (ms > 0) await delay(ms)
      })
      stops.push(last)
    }
  }
  return stops
}

const phasesOf = (stops: Stop[]) => [...new Set(stops.map(({ phase }) => phase))].sort()
/** How many stops left it unknown what became of the refresh token; docs/reliability.md has these. */
const unknownOf = (stops: Stop[]) => {
  const { length } = stops.filter(({ unknown }) => unknown)
  console.log(`${stops.length} stops, ${length} of them with an unknown outcome`)
  return length
}

describe('a worker that is stopped every 20 ms through a renewal loses no session', () => {
  test('where the server rotates and remembers the consent (RF-05, RF-07)', async () => {
    const page = await openSignedIn(world)
    const stops = await sweep(world, page, [
      ['expired', 'delay'],
      ['expired', 'delay-after'],
      ['refused', 'delay-after'],
    ])
    expect(phasesOf(stops)).toEqual(['acted', 'answered', 'asked', 'not asked'])
    expect(unknownOf(stops)).toBeGreaterThan(6)
  })

  const inWorldWith = async (
    server: WorldOptions['server'],
    work: (world: World) => Promise<void>,
  ) => {
    const other = await startWorld({ server })
    try {
      await work(other)
      await other.reset()
    } finally {
      await other.close()
    }
  }

  test('where it forgets the consent, but silent logins work (RF-07)', () =>
    inWorldWith({}, async (other) => {
      const page = await openSignedIn(other)
      await page.evaluate(() => window.auth.checkSession())
      const stops = await sweep(other, page, [['expired', 'delay-after']])
      expect(phasesOf(stops)).toEqual(['acted', 'answered', 'not asked'])
      expect(unknownOf(stops)).toBeGreaterThan(2)
    }))

  test('where it does not rotate (RF-03, RF-05)', () =>
    inWorldWith({ rotate: false }, async (other) => {
      const page = await openSignedIn(other)
      const stops = await sweep(other, page, [
        ['expired', 'delay-after'],
        ['refused', 'delay'],
      ])
      expect(phasesOf(stops)).toEqual(['acted', 'answered', 'asked', 'not asked'])
      expect(unknownOf(stops)).toBeGreaterThan(4)
      // All of that with the refresh token of the sign-in.
      expect((await recordIn(other, page)).silentLoginWorks).toBe(undefined)
    }))
})

describe('a worker that is stopped', () => {
  test('while the answer arrives and is stored: nothing is lost (RF-03, RF-05)', async () => {
    const page = await openSignedIn(world)
    const stops: Stop[] = []
    for (let ms = 0; ms < 16; ms += 2) {
      const stop = await stopAt(world, page, ['expired', 'delay-after'], async () => {
        await world.as.waitForRequest(({ grantType, status }) => grantType && status)
        if (ms > 0) await delay(ms)
      })
      stops.push(stop)
    }
    expect(phasesOf(stops)).toEqual(['answered'])
  })

  test.each(['drop-before', 'delay', 'delay-after'] as const)(
    'and again during the repair, %s: the next request finds the session well',
    async (fault) => {
      const page = await openSignedIn(world)
      await page.evaluate(() => window.auth.checkSession())
      await expireToken(world, page)
      world.as.clearRequests()
      world.as.setFault({ path: '/token', kind: 'delay-after', ms: serverTime, times: 1 })
      const answer = me(world, page)
      await world.as.waitForRequest(({ grantType }) => grantType === 'refresh_token')
      await stopWorkers(page)
      // The next worker tries silently: the server knows the answer, the worker that asks is gone.
      world.as.setFault({ path: '/auth', kind: fault, ms: serverTime, times: 1 })
      const asked = world.as.waitForRequest(({ path }) => path === '/auth')
      expect(await Promise.race([asked, answer])).toHaveProperty('path', '/auth')
      await stopWorkers(page)
      // Mostly the browser gives a request to a second worker, and not to a third.
      expect([200, 'TypeError']).toContain((await answer).status ?? (await answer).error)
      await expect.poll(() => me(world, page), { timeout: limit(20_000) }).toMatchObject(asAlice)
      expect(await alarmsIn(page)).toEqual([])
    },
  )
})

test('in the middle of renew(): the page asks the next worker, and gets its answer (BR-05)', async () => {
  const page = await openSignedIn(world)
  world.as.clearRequests()
  const grantType = 'refresh_token'
  world.as.setFault({ path: '/token', grantType, kind: 'delay-after', ms: serverTime, times: 1 })
  const answer = page.evaluate(() => window.auth.renew())
  await world.as.waitForRequest((request) => request.grantType === grantType)
  await stopWorkers(page)
  expect(await answer).toBeUndefined()
  expect(await me(world, page)).toMatchObject(asAlice)
  expect(await alarmsIn(page)).toEqual([])
})
