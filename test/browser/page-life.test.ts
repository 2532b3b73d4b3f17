import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { SessionEvent } from '../../src/index.js'
import { limit } from '../support/machine.mjs'
import { type PlainPage, startPlainBrowser } from '../support/plain-browser.js'
import { NONCE } from '../support/strict-policy.js'
import { authorizationsAt, refreshesAt, startServers } from '../support/world.js'

let world: Awaited<ReturnType<typeof startServers>>
let browser: Awaited<ReturnType<typeof startPlainBrowser>>
let profile: string
beforeAll(async () => {
  world = await startServers({ server: { consentRemembered: true } })
  // Playwright's browser pretends that every page is visible, and does not let one prerender.
  browser = await startPlainBrowser()
})
beforeEach(async () => {
  profile = await browser.newProfile()
})
afterEach(async () => {
  await browser.closeProfile(profile)
  await world.reset()
})
afterAll(async () => {
  await browser.close()
  await world.close()
})

const open = async (path = '') => {
  const page = await browser.open(profile, world.url + path)
  await page.evaluate('auth.ready')
  return page
}

const openSignedIn = async () => {
  const page = await open()
  const arrived = page.event('Page.loadEventFired')
  await page.evaluate('void auth.login()')
  await arrived
  await page.evaluate('auth.ready')
  return page
}

/** Status of a request, or the name of the error. */
const me = (page: PlainPage) =>
  page.evaluate(`fetch('${world.api.url}/me').then(({ status }) => status, ({ name }) => name)`)

/** What the page has heard. */
const eventsOf = (page: PlainPage): Promise<SessionEvent[]> => page.evaluate('events')

const typesOf = async (page: PlainPage) => (await eventsOf(page)).map(({ type }) => type)

/** Only a silent login brings the next token. */
const spend = () => {
  world.as.revokeRefreshTokens()
  world.as.expireAccessTokens()
}

const silentAttempts = () =>
  authorizationsAt(world.as).filter(({ query }) => query.includes('prompt=none'))

const elapsed = async (work: () => Promise<unknown>) => {
  const start = performance.now()
  await work()
  return performance.now() - start
}

const freeze = (page: PlainPage) => page.send('Page.setWebLifecycleState', { state: 'frozen' })
const wake = (page: PlainPage) => page.send('Page.setWebLifecycleState', { state: 'active' })

/** Loads a document of another origin: from there, Back finds the page as it was. */
const goAway = async (page: PlainPage) => {
  const loaded = page.event('Page.loadEventFired')
  await page.send('Page.navigate', { url: `${world.api.url}/open` })
  await loaded
}

/** Goes Back; fails if the page has to be loaded again. */
const goBack = async (page: PlainPage) => {
  const { currentIndex, entries } = await page.send('Page.getNavigationHistory')
  const arrived = page.event('Page.frameNavigated')
  await page.send('Page.navigateToHistoryEntry', { entryId: entries[currentIndex - 1].id })
  expect(await arrived).toMatchObject({ type: 'BackForwardCacheRestore' })
}

const crash = async (page: PlainPage) => {
  await page.send('Inspector.enable')
  const crashed = page.event('Inspector.targetCrashed')
  page.send('Page.crash').catch(() => {})
  await crashed
}

const reload = async (page: PlainPage) => {
  const loaded = page.event('Page.loadEventFired')
  await page.send('Page.reload')
  await loaded
  await page.evaluate('auth.ready')
}

describe('a frozen tab', () => {
  test('costs a second, and the next page signs in silently (SI-06)', async () => {
    const asleep = await openSignedIn()
    const awake = await open()
    await freeze(asleep)
    spend()
    const framed = awake.event('Page.frameAttached')
    expect(await elapsed(async () => expect(await me(awake)).toBe(200))).toBeLessThan(limit(4_000))
    await framed
    expect(silentAttempts()).toHaveLength(1)
  })

  test('hears when it wakes up that the session was renewed, and has nothing to renew', async () => {
    const asleep = await openSignedIn()
    const awake = await open()
    await freeze(asleep)
    await awake.evaluate('auth.renew()')
    await wake(asleep)
    await expect.poll(() => typesOf(asleep)).toContain('renewed')
    expect(await asleep.evaluate('auth.session()')).toEqual(await awake.evaluate('auth.session()'))
    expect(await me(asleep)).toBe(200)
    expect(refreshesAt(world.as)).toHaveLength(1)
  })

  test('hears when it wakes up that the user has signed out', async () => {
    const asleep = await openSignedIn()
    const awake = await open()
    await freeze(asleep)
    await awake.evaluate('auth.logout({ local: true })')
    await wake(asleep)
    const signedOut = { type: 'signed-out', reason: 'logout' }
    await expect.poll(() => eventsOf(asleep)).toContainEqual(signedOut)
    expect(await asleep.evaluate('auth.session()')).toBe(undefined)
  })
})

describe('a page in the back/forward cache', () => {
  test('costs nothing: it is not asked to sign in silently (SI-06, SI-09)', async () => {
    const cached = await openSignedIn()
    const shown = await open()
    await goAway(cached)
    spend()
    const framed = shown.event('Page.frameAttached')
    expect(await elapsed(async () => expect(await me(shown)).toBe(200))).toBeLessThan(limit(1_500))
    await framed
    expect(silentAttempts()).toHaveLength(1)
    await goBack(cached)
  })

  test('hears what was renewed meanwhile, and goes on with it', async () => {
    const cached = await openSignedIn()
    const shown = await open()
    await goAway(cached)
    world.as.expireAccessTokens()
    expect(await me(shown)).toBe(200)
    await goBack(cached)
    await expect.poll(() => typesOf(cached)).toContain('renewed')
    expect(await cached.evaluate('auth.session()')).toEqual(await shown.evaluate('auth.session()'))
    expect(await me(cached)).toBe(200)
    expect(refreshesAt(world.as)).toHaveLength(1)
  })

  test('hears that the user has signed out when it is shown again', async () => {
    const cached = await openSignedIn()
    const shown = await open()
    await goAway(cached)
    await shown.evaluate('auth.logout({ local: true })')
    await goBack(cached)
    const signedOut = { type: 'signed-out', reason: 'logout' }
    await expect.poll(() => eventsOf(cached)).toContainEqual(signedOut)
  })
})

describe('a tab whose process the browser has ended', () => {
  test('is as any other when it is loaded again, without a renewal', async () => {
    const page = await openSignedIn()
    await crash(page)
    await reload(page)
    expect(await page.evaluate('auth.session()')).toMatchObject({ state: 'fresh' })
    expect(await me(page)).toBe(200)
    expect(refreshesAt(world.as)).toEqual([])
  })

  test('with the hidden frame in it: the next page signs in silently (SI-06)', async () => {
    const first = await openSignedIn()
    const second = await open()
    const asking = await open()
    // Of the other two, whichever has the frame is ended.
    await asking.evaluate(`Object.defineProperty(document, 'body', { get: () => null })`)
    spend()
    world.as.setFault({ path: '/auth', kind: 'hang', times: 1 })
    const chosen = Promise.race(
      [first, second].map(async (page) => {
        await page.event('Page.frameAttached')
        return page
      }),
    )
    const answer = me(asking)
    await world.as.waitForRequest(({ fault }) => fault === 'hang')
    await crash(await chosen)
    expect(await answer).toBe(200)
    expect(silentAttempts()).toHaveLength(2)
  })

  test('and the worker with it, in the middle of a renewal: the others go on (RF-05)', async () => {
    // The first page of a site shares its process with the worker.
    const first = await openSignedIn()
    const second = await open()
    world.as.expireAccessTokens()
    world.as.setFault({ path: '/token', kind: 'delay-after', ms: 500, times: 1 })
    me(first).catch(() => {})
    await world.as.waitForRequest(({ grantType }) => grantType === 'refresh_token')
    await crash(first)
    expect(await me(second)).toBe(200)
    expect(await typesOf(second)).not.toContain('signed-out')
    await reload(first)
    expect(await me(first)).toBe(200)
  })
})

describe('a prerendered page', () => {
  /** A page, and one that it lets the browser prerender, its script run. */
  const openPrerendering = async () => {
    // The rules are a script that is made from a string.
    world.usePolicy({ page: { 'require-trusted-types-for': undefined } })
    const shown = await openSignedIn()
    const prerendering = shown.nextPage()
    await shown.evaluate(`{
      const rules = document.createElement('script')
      rules.type = 'speculationrules'
      rules.nonce = '${NONCE}'
      rules.textContent = JSON.stringify({ prerender: [{ urls: ['${world.url}other'] }] })
      document.head.append(rules)
    }`)
    const early = await prerendering
    await expect.poll(() => early.evaluate('typeof auth')).toBe('object')
    expect(await early.evaluate('document.prerendering')).toBe(true)
    return { shown, early }
  }

  /** The browser shows the page that it has prerendered. */
  const show = async (shown: PlainPage, early: PlainPage) => {
    await shown.evaluate(`void (location.href = '${world.url}other')`)
    await early.evaluate('auth.ready')
    const activation = `performance.getEntriesByType('navigation')[0].activationStart`
    expect(await early.evaluate(activation)).toBeGreaterThan(0)
  }

  test('signs nobody in silently, and is as any other once it is shown (SI-06, SI-09)', async () => {
    const { shown, early } = await openPrerendering()
    spend()
    const framed = shown.event('Page.frameAttached')
    expect(await elapsed(async () => expect(await me(shown)).toBe(200))).toBeLessThan(limit(3_000))
    await framed
    await show(shown, early)
    expect(await early.evaluate('auth.session()')).toMatchObject({ state: 'fresh' })
    expect(await me(early)).toBe(200)
    expect(silentAttempts()).toHaveLength(1)
  })

  test('has tokens for its requests, but signs in only when it is shown (SI-09)', async () => {
    const { shown, early } = await openPrerendering()
    expect(await me(early)).toBe(200)
    await early.evaluate('void auth.login().catch(() => {})')
    world.as.clearRequests()
    expect(await me(early)).toBe(200)
    expect(await early.evaluate('document.prerendering')).toBe(true)
    expect(authorizationsAt(world.as)).toEqual([])
    const arrived = world.as.waitForRequest(({ path }) => path === '/auth')
    await shown.evaluate(`void (location.href = '${world.url}other')`)
    await arrived
  })
})

describe('an installed app', () => {
  /** `scope` and `start_url` of its manifest. */
  const manifest = (scope: string) =>
    JSON.stringify({
      ...{ id: '/', name: 'Test app', scope, start_url: scope, display: 'standalone' },
      icons: [{ src: '/icon.svg', sizes: 'any', type: 'image/svg+xml' }],
    })

  test('signs in and out in its own window, and silently in the page (AR-18)', async () => {
    world.usePolicy({ page: { 'manifest-src': "'self'" } })
    const svg =
      '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"><path d="M0 0h9v9z"/></svg>'
    world.site.addFile('/icon.svg', { body: svg })
    world.site.addFile('/app.webmanifest', { body: manifest('/') })
    const link = '<link rel="manifest" href="/app.webmanifest">'
    const body = world.pageSource.replace('<h1>', `${link}<h1>`)
    world.site.addFile('/', { body, type: 'text/html' })
    // Its profile is the browser's own.
    const own = await startPlainBrowser(['--enable-devtools-pwa-handler'])
    try {
      const app = await own.openInstalled(world.url)
      const isStandalone = () => app.evaluate(`matchMedia('(display-mode: standalone)').matches`)
      const isLoaded = `document.readyState === 'complete' && typeof auth === 'object'`
      await expect.poll(() => app.evaluate(isLoaded)).toBe(true)
      await app.evaluate('auth.ready')
      expect(await isStandalone()).toBe(true)
      const windows = (await own.urls()).length

      /** Leaves for the server, and waits until the app is back. */
      const goRound = async (expression: string) => {
        let loaded = app.event('Page.loadEventFired')
        await app.evaluate(expression)
        await loaded
        while (!(await app.evaluate('location.href')).startsWith(world.url)) {
          loaded = app.event('Page.loadEventFired')
          // The server asks whether the user means it.
          await app.evaluate(`document.querySelector('button[name=logout]').click()`)
          await loaded
        }
        await app.evaluate('auth.ready')
        expect(await isStandalone()).toBe(true)
        expect(await own.urls()).toHaveLength(windows)
      }
      await goRound('void auth.login()')
      expect(await app.evaluate('auth.session()')).toMatchObject({ state: 'fresh' })
      spend()
      expect(await me(app)).toBe(200)
      expect(silentAttempts()).toHaveLength(1)
      await goRound('void auth.logout()')
      expect(await app.evaluate('auth.session()')).toBe(undefined)
    } finally {
      await own.close()
      world.site.addFile('/', { body: world.pageSource, type: 'text/html' })
    }
  })
})
