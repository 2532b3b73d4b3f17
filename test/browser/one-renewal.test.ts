import type { BrowserContext, Page } from 'playwright-core'
import { describe, expect, test } from 'vitest'
import { limit } from '../support/machine.mjs'
import {
  authorizationsAt,
  eventsIn,
  expireToken,
  fetchIn,
  openApp,
  openSignedIn,
  refreshesAt,
  sessionIn,
  signIn,
  stopWorkers,
  useWorld,
} from '../support/world.js'

const world = useWorld({
  base: '/a/',
  otherBase: '/b/',
  server: { consentRemembered: true },
})

const asAlice = { status: 200, body: { sub: 'alice' } }
const me = (page: Page) => fetchIn(page, `${world.api.url}/me`)

const slowly = (kind: 'delay' | 'delay-after', ms: number) =>
  world.as.setFault({ path: '/token', grantType: 'refresh_token', kind, ms, times: 1 })

const refreshArrives = () =>
  world.as.waitForRequest(({ grantType }) => grantType === 'refresh_token')

const nobodyIsBothered = async (pages: Page[]) => {
  for (const page of pages) {
    const alarms = (await eventsIn(page)).filter((event) => /^(signed-|login-)/.test(event))
    expect(alarms).toEqual([])
  }
}

/** As many tabs of the app in one browser, the user signed in. */
const openTabs = async (count: number, context?: BrowserContext): Promise<Page[]> => {
  const first = await openSignedIn(world, context)
  const open = () => openApp(first.context(), world.url)
  const others = await Promise.all(Array.from({ length: count - 1 }, open))
  return [first, ...others]
}

describe('five tabs with four requests each on an expired token', () => {
  const sendAll = (pages: Page[]) =>
    Promise.all(pages.flatMap((page) => Array.from({ length: 4 }, () => me(page))))
  const allWell = Array.from({ length: 20 }, () => asAlice)

  test('ask for one token (RF-01)', async () => {
    const pages = await openTabs(5)
    await expireToken(world, pages[0] as Page)
    expect(await sendAll(pages)).toMatchObject(allWell)
    expect(refreshesAt(world.as)).toMatchObject([{ status: 200 }])
    await nobodyIsBothered(pages)
  })

  test.each(['delay', 'delay-after'] as const)(
    'are all answered when the worker is stopped meanwhile, %s (RF-01, RF-05)',
    async (kind) => {
      const pages = await openTabs(5)
      await expireToken(world, pages[0] as Page)
      slowly(kind, 1_000)
      const answers = sendAll(pages)
      await refreshArrives()
      await stopWorkers(pages[0] as Page)
      expect(await answers).toMatchObject(allWell)
      // The one that was stopped, and the one that the next worker sends or replaces.
      expect(refreshesAt(world.as)[0]?.status).toBe(0)
      expect(refreshesAt(world.as)).toHaveLength(2)
      expect(authorizationsAt(world.as)).toHaveLength(kind === 'delay' ? 1 : 2)
      await nobodyIsBothered(pages)
    },
  )
})

describe('one renewal', () => {
  test('serves a page and a worker of the page (RF-01)', async () => {
    world.usePolicy({ page: { 'worker-src': "'self'", 'require-trusted-types-for': undefined } })
    const page = await openSignedIn(world)
    const body = `
      onmessage = async ({ data }) => {
        const answers = await Promise.all([1, 2, 3].map(() => fetch(data)))
        postMessage(answers.map(({ status }) => status))
      }`
    world.site.addFile('/a/dedicated.js', { body })
    const ask = (url: string) =>
      page.evaluate(
        ([url]) =>
          new Promise((resolve) => {
            const worker = new Worker('/a/dedicated.js')
            worker.onmessage = ({ data }) => resolve(data)
            worker.postMessage(url)
          }),
        [url],
      )
    expect(await ask(`${world.api.url}/me`)).toEqual([200, 200, 200])
    await expireToken(world, page)
    slowly('delay', 500)
    const answers = Promise.all([ask(`${world.api.url}/me`), me(page), ask('/api/me')])
    expect(await answers).toMatchObject([[200, 200, 200], asAlice, [200, 200, 200]])
    expect(refreshesAt(world.as)).toMatchObject([{ status: 200 }])
  })

  test('serves two apps of the origin, each with a worker of its own (RF-01)', async () => {
    const first = await openSignedIn(world)
    const second = await openApp(first.context(), `${world.site.origin}/b/`)
    expect(first.context().serviceWorkers()).toHaveLength(2)
    expect(await me(second)).toMatchObject(asAlice)
    for (let round = 1; round <= 3; round++) {
      await expireToken(world, first)
      await sessionIn(second)
      const answers = await Promise.all([me(first), me(second), me(first), me(second)])
      expect(answers).toMatchObject([asAlice, asAlice, asAlice, asAlice])
      expect(refreshesAt(world.as)).toHaveLength(round)
    }
    await nobodyIsBothered([second])
  })

  test('of one app is waited for by the other, and taken over when its worker is stopped (RF-01)', async () => {
    const first = await openSignedIn(world)
    const second = await openApp(first.context(), `${world.site.origin}/b/`)
    await me(second)
    await expireToken(world, first)
    slowly('delay-after', 1_000)
    const answer = me(first)
    await refreshArrives()
    const other = me(second)
    await stopWorkers(first)
    expect(await Promise.all([answer, other])).toMatchObject([asAlice, asAlice])
    expect(refreshesAt(world.as)).toHaveLength(2)
    await nobodyIsBothered([second])
  })
})

describe('an update of the worker while a refresh is under way', () => {
  test('loses neither the request nor the session (RF-01, RF-03)', async () => {
    const page = await openSignedIn(world)
    await expireToken(world, page)
    // The first update in the life of a browser takes it two seconds to begin.
    slowly('delay-after', 4_000)
    const answer = me(page)
    await refreshArrives()
    world.useWorker('', "addEventListener('install', () => skipWaiting())")
    await page.evaluate(async () => {
      const registration = await navigator.serviceWorker.ready
      const old = registration.active
      const changed = new Promise((resolve) => {
        navigator.serviceWorker.addEventListener('controllerchange', resolve)
      })
      await registration.update()
      const next = registration.installing ?? registration.waiting
      while (next?.state === 'installing') {
        await new Promise((resolve) => next.addEventListener('statechange', resolve))
      }
      Object.assign(window, {
        isNew: changed.then(() => navigator.serviceWorker.controller !== old),
      })
    })
    // The new worker is there, and the old one has no answer yet.
    expect(refreshesAt(world.as)).toMatchObject([{ status: undefined }])
    // Requests that come between the two wait as well.
    const second = me(page)
    expect(await Promise.all([answer, second])).toMatchObject([asAlice, asAlice])
    expect(await page.evaluate('isNew')).toBe(true)
    expect(refreshesAt(world.as).length).toBeLessThanOrEqual(2)
    expect(await me(page)).toMatchObject(asAlice)
    await page.evaluate(() => window.auth.renew())
    expect(await sessionIn(page)).toMatchObject({ state: 'fresh' })
    await nobodyIsBothered([page])
  })
})

describe('two apps of one origin hear of the same session within a second', () => {
  test('a sign-in, a renewal and the end of it (RF-01)', async () => {
    const first = await openApp(await world.newProfile(), world.url)
    const second = await openApp(first.context(), `${world.site.origin}/b/`)
    const hears = (page: Page, event: string) =>
      expect.poll(() => eventsIn(page), { timeout: limit(1_000), interval: 20 }).toContain(event)
    await signIn(first)
    await hears(second, 'signed-in')
    await first.evaluate(() => window.auth.renew())
    await hears(second, 'renewed')
    await first.evaluate(() => window.auth.logout({ local: true }))
    await hears(second, 'signed-out logout')
    expect(await me(second)).toMatchObject({ status: 401 })
    await signIn(second)
    await hears(first, 'signed-in')
    await second.evaluate(() => window.auth.logout({ local: true }))
    await hears(first, 'signed-out logout')
  })
})
