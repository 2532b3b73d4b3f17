import type { Page } from 'playwright-core'
import { describe, expect, test } from 'vitest'
import {
  arriveAt,
  eventsIn,
  fetchIn,
  heard,
  landIn,
  openAndSignIn,
  openApp,
  openSignedIn,
  sessionIn,
  signIn,
  soonGivenUp,
  useWorld,
} from '../support/world.js'

const world = useWorld({ bfcache: true, server: { consentRemembered: true } })

/** Two tabs of one browser, of which the second was open before the first one signed in. */
const openTwoTabs = async (): Promise<[first: Page, second: Page]> => {
  const context = await world.newProfile()
  const second = await openApp(context, `${world.url}other`)
  return [await openAndSignIn(world, context), second]
}

const forgetEvents = (page: Page) =>
  page.evaluate(() => {
    window.events.length = 0
  })

const asks = (path: string) => world.as.requests.filter((request) => request.path.startsWith(path))

const untilAsked = (path: string) => world.as.waitForRequest((request) => request.path === path)

/** Everything but the worker's own memory of the session is as if the user had never been here. */
const clearDatabases = (page: Page) =>
  page.evaluate(async () => {
    for (const { name = '' } of await indexedDB.databases()) {
      await new Promise((resolve, reject) => {
        Object.assign(indexedDB.deleteDatabase(name), { onsuccess: resolve, onerror: reject })
      })
    }
  })

const frameCount = (page: Page) => page.evaluate(() => document.querySelectorAll('iframe').length)

const expectSignedOut = async (page: Page) => {
  expect(await sessionIn(page)).toBeUndefined()
  world.api.clearRequests()
  expect(await fetchIn(page, `${world.api.url}/me`)).toMatchObject({ status: 401 })
  expect(world.api.requests.map(({ authorization }) => authorization)).toEqual(['none'])
}

const expectSignedIn = async (page: Page, sub = 'alice') => {
  expect(await sessionIn(page)).toMatchObject({ claims: { sub }, state: 'fresh' })
  const answer = await fetchIn(page, `${world.api.url}/me`)
  expect(answer).toMatchObject({ status: 200, body: { sub } })
}

/** `logout()` as a page that stays or goes calls it; a `TokenError` gives its code. */
const logout = (page: Page, input: { returnTo?: string; local?: boolean } = {}) =>
  page.evaluate((input) => window.auth.logout(input).catch(({ code }) => code as string), input)

const checkSession = (page: Page) =>
  page.evaluate(() =>
    window.auth.checkSession().then(
      (session) => ({ session }),
      ({ name, code, transient }) => ({ name, code, transient }),
    ),
  )

describe('the session', () => {
  test('is known in a second tab, and each change is heard there (SE-05)', async () => {
    const [first, second] = await openTwoTabs()
    await heard(second, 'signed-in')
    expect(await sessionIn(second)).toEqual(await sessionIn(first))
    await expectSignedIn(second)

    await first.evaluate(() => window.auth.renew())
    await heard(second, 'renewed')
    const expiry = await second.evaluate(() => {
      const event = window.events.find(({ type }) => type === 'renewed')
      return event?.type === 'renewed' ? event.session.accessTokenExpiresAt : undefined
    })
    expect(expiry).toBe((await sessionIn(first))?.accessTokenExpiresAt)

    await logout(second, { local: true })
    await heard(first, 'signed-out logout')
    await heard(second, 'signed-out logout')
    await expectSignedOut(first)
  })

  test('is known to a page that is opened later, and to one that is reloaded', async () => {
    const page = await openSignedIn(world)
    const later = await openApp(page.context(), `${world.url}other`)
    await expectSignedIn(later)
    await later.reload()
    await expectSignedIn(later)
    expect(await eventsIn(later)).toEqual([])
  })

  test('carries no token, code or protocol claim (ST-13)', async () => {
    const session = await sessionIn(await openSignedIn(world))
    expect(Object.keys(session ?? {}).sort()).toEqual([
      'accessTokenExpiresAt',
      'claims',
      'scope',
      'since',
      'state',
    ])
    expect(Object.keys(session?.claims ?? {}).sort()).toEqual(['name', 'preferred_username', 'sub'])
  })

  test('is there at once without network (OF-02)', async () => {
    const page = await openSignedIn(world)
    await page.context().setOffline(true)
    expect(await sessionIn(page)).toMatchObject({ claims: { sub: 'alice' } })
  })

  test('of the user before ends when somebody else signs in (SE-08)', async () => {
    const [first, second] = await openTwoTabs()
    await heard(second, 'signed-in')
    await forgetEvents(second)
    world.as.endSessions()
    world.as.setAutoSignIn('bob')
    await signIn(first)
    await heard(second, 'signed-in')
    expect(await eventsIn(second)).toEqual(['signed-out user_changed', 'signed-in'])
    await expectSignedIn(first, 'bob')
    await expectSignedIn(second, 'bob')
    expect((await untilAsked('/revoke')).status).toBe(200)
  })

  test('goes on when the same user signs in again; no token is revoked', async () => {
    const [first, second] = await openTwoTabs()
    await signIn(first)
    expect(await eventsIn(second)).not.toContain('signed-out user_changed')
    await expectSignedIn(second)
    expect(asks('/revoke')).toEqual([])
  })

  test('is asked for again by a page that comes back from the back/forward cache (SE-05)', async () => {
    const [first, second] = await openTwoTabs()
    await heard(second, 'signed-in')
    await forgetEvents(second)
    await second.goto(`${world.api.url}/open`)
    await logout(first, { local: true })
    await second.goBack({ waitUntil: 'commit' })
    await heard(second, 'signed-out logout')
    await expectSignedOut(second)
  })

  test('is asked for again when the browser says that the page was restored', async () => {
    const page = await openSignedIn(world)
    await clearDatabases(page)
    await page.evaluate(() => {
      dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))
    })
    await heard(page, 'signed-out storage_cleared')
    await expectSignedOut(page)
  })
})

describe('logout()', () => {
  test('revokes, ends the session at the server, and comes back (SE-02, SE-04)', async () => {
    const [page, second] = await openTwoTabs()
    await page.evaluate(() => {
      window.auth.logout({ returnTo: '/other?bye=1#end' }).catch(() => {})
    })
    await page.waitForSelector('button[name=logout]')
    await heard(second, 'signed-out logout')
    expect(await sessionIn(second)).toBeUndefined()
    expect((await untilAsked('/revoke')).status).toBe(200)
    await landIn(page, world.url, () => page.click('button[name=logout]'))
    expect(page.url()).toBe(`${world.url}other?bye=1#end`)
    await expectSignedOut(page)
    expect(await checkSession(page)).toEqual({})
  })

  test('names the user to the server, but not to the page (SE-04)', async () => {
    const page = await openSignedIn(world)
    await page.evaluate(() => {
      window.auth.logout().catch(() => {})
    })
    const { query } = await untilAsked('/session/end')
    const params = new URLSearchParams(query)
    expect(params.get('id_token_hint')?.split('.')).toHaveLength(3)
    expect(params.get('client_id')).toBe(world.clientId)
    expect(params.get('post_logout_redirect_uri')).toBe(`${world.url}tokenward/logout.html`)
    expect(params.get('state')).toMatch(/^[\w-]{43}$/)
    await page.waitForSelector('button[name=logout]')
    await landIn(page, world.url, () => page.click('button[name=logout]'))
    expect(page.url()).toBe(world.url)
    expect(world.site.requests.filter(({ path }) => path.includes('tokenward/'))).toEqual([])
  })

  test('resolves when the user comes Back from the server’s page, signed out here', async () => {
    const page = await openSignedIn(world)
    await arriveAt(page, world.as.issuer, () =>
      page.evaluate(() => {
        Object.assign(window, { outcome: window.auth.logout() })
      }),
    )
    await page.goBack({ waitUntil: 'commit' })
    expect(await page.evaluate('outcome')).toEqual({ server: 'unknown' })
    await expectSignedOut(page)
  })

  test('with local: true stays on the page and leaves the server’s session alone', async () => {
    const page = await openSignedIn(world)
    expect(await logout(page, { local: true })).toEqual({ server: 'unknown' })
    expect(page.url()).toBe(world.url)
    await heard(page, 'signed-out logout')
    await expectSignedOut(page)
    expect((await untilAsked('/revoke')).status).toBe(200)
    expect(asks('/session/end')).toEqual([])
    expect(await checkSession(page)).toMatchObject({ session: { claims: { sub: 'alice' } } })
  })

  test('works offline: forgets, tells, and resolves with unknown (OF-01)', async () => {
    const [page, second] = await openTwoTabs()
    await heard(second, 'signed-in')
    await page.context().setOffline(true)
    expect(await logout(page)).toEqual({ server: 'unknown' })
    await heard(second, 'signed-out logout')
    expect(await sessionIn(second)).toBeUndefined()
    // An app that is not stored for offline use would be gone after any navigation.
    expect(await page.textContent('h1')).toBe('test app')
    await page.context().setOffline(false)
    await page.reload()
    await expectSignedOut(page)
  })

  test('works while the server is down', async () => {
    const page = await openSignedIn(world)
    await world.as.stop()
    try {
      await landIn(page, world.url, () => logout(page, { returnTo: '/other' }))
      expect(page.url()).toBe(`${world.url}other`)
      await expectSignedOut(page)
    } finally {
      await world.as.start()
    }
  })

  test('goes nowhere else than to this app', async () => {
    const page = await openSignedIn(world)
    expect(await logout(page, { returnTo: 'https://evil.example/' })).toBe('invalid_input')
    await expectSignedIn(page)
  })

  test('without anybody signed in does no harm', async () => {
    const page = await openApp(await world.newProfile(), world.url)
    expect(await logout(page, { local: true })).toEqual({ server: 'unknown' })
    expect(await eventsIn(page)).toEqual([])
  })

  test('logout.html cannot be used to sign anybody out from elsewhere (AR-08)', async () => {
    const page = await openSignedIn(world)
    for (const query of ['', '?ticket=guessed', '?state=guessed']) {
      await landIn(page, world.url, () => page.goto(`${world.url}tokenward/logout.html${query}`))
      expect(page.url()).toBe(world.url)
    }
    await expectSignedIn(page)
    expect(asks('/session/end')).toEqual([])
  })
})

describe('logout() at a server with neither revocation nor logout', () => {
  const poor = useWorld({ server: { revocation: false, endSession: false } })

  test('forgets the session here, and goes to the return URL (SE-04)', async () => {
    const page = await openSignedIn(poor)
    await landIn(page, poor.url, () => logout(page, { returnTo: '/other#bye' }))
    expect(page.url()).toBe(`${poor.url}other#bye`)
    expect(await sessionIn(page)).toBeUndefined()
    expect(await fetchIn(page, `${poor.api.url}/me`)).toMatchObject({ status: 401 })
    expect(await logout(page, { local: true })).toEqual({ server: 'unknown' })
  })
})

describe('checkSession()', () => {
  /** A page without a session, whose user the server knows. */
  const openForgotten = async (): Promise<Page> => {
    const page = await openSignedIn(world)
    await clearDatabases(page)
    await heard(page, 'signed-out storage_cleared')
    expect(await sessionIn(page)).toBeUndefined()
    await forgetEvents(page)
    world.as.clearRequests()
    return page
  }

  test('signs in silently if the server knows the user, and leaves no frame', async () => {
    const page = await openForgotten()
    const second = await openApp(page.context(), `${world.url}other`)
    const navigations: string[] = []
    page.on('framenavigated', (frame) => {
      if (frame === page.mainFrame()) navigations.push(frame.url())
    })
    const { session } = (await checkSession(page)) as { session?: { claims: object } }
    expect(session).toMatchObject({ claims: { sub: 'alice', name: 'Alice Adams' } })
    expect(navigations).toEqual([])
    expect(await frameCount(page)).toBe(0)
    await heard(page, 'signed-in')
    await heard(second, 'signed-in')
    await expectSignedIn(page)
    const [request] = asks('/auth')
    expect(new URLSearchParams(request?.query).get('prompt')).toBe('none')
  })

  test('gives undefined where the server does not know the user', async () => {
    const page = await openForgotten()
    world.as.endSessions()
    expect(await checkSession(page)).toEqual({})
    expect(await frameCount(page)).toBe(0)
    expect(await eventsIn(page)).toEqual([])
    await expectSignedOut(page)
  })

  test('rejects with consent_required where the user has to agree first (SI-05)', async () => {
    const page = await openForgotten()
    world.as.forgetGrants()
    expect(await checkSession(page)).toMatchObject({ name: 'TokenError', code: 'consent_required' })
    expect(await frameCount(page)).toBe(0)
    await expectSignedOut(page)
  })

  test('never ends a session that is there', async () => {
    const page = await openSignedIn(world)
    world.as.endSessions()
    await checkSession(page)
    expect(await eventsIn(page)).not.toContain('signed-out ended')
    await expectSignedIn(page)
  })

  test('is done once for all who ask at the same time', async () => {
    const page = await openForgotten()
    const second = await openApp(page.context(), `${world.url}other`)
    const results = await Promise.all([
      checkSession(page),
      checkSession(page),
      checkSession(second),
    ])
    for (const result of results)
      expect(result).toMatchObject({ session: { scope: 'openid profile' } })
    expect(asks('/auth')).toHaveLength(1)
  })

  test('fails at once without network (OF-08)', async () => {
    const page = await openForgotten()
    await page.context().setOffline(true)
    expect(await checkSession(page)).toEqual({
      name: 'TokenError',
      code: 'offline',
      transient: true,
    })
  })

  test('says what a Content-Security-Policy has to allow (SI-04)', async () => {
    world.usePolicy({ page: { 'frame-src': "'none'" } })
    const page = await openApp(await world.newProfile(), world.url)
    expect(await checkSession(page)).toMatchObject({ code: 'silent_login_blocked' })
    expect(await frameCount(page)).toBe(0)
  })

  test('takes no frame that forbids itself for a no: timeout', async () => {
    world.useWorker(soonGivenUp(1))
    const page = await openApp(await world.newProfile(), world.url)
    const headers = { 'x-frame-options': 'DENY' }
    world.as.setFault({ path: '/auth', kind: 'html', headers })
    expect(await checkSession(page)).toMatchObject({ code: 'timeout', transient: true })
    expect(await frameCount(page)).toBe(0)
  })
})
