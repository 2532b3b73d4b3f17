import { createServer } from 'node:http'
import type { BrowserContext, Page } from 'playwright-core'
import { afterEach, describe, expect, test } from 'vitest'
import { close, listen, originOf } from '../../demo/site.mjs'
import { anyServer } from '../support/strict-policy.js'
import {
  authorizationsAt,
  eventsOf,
  fetchIn,
  movableClock,
  openAndSignIn,
  openApp,
  refreshesAt,
  requestsTo,
  shiftClock,
  signIn,
  soonGivenUp,
  startWorld,
  stopWorkers,
  useWorld,
} from '../support/world.js'

const world = useWorld({ beforeWorker: movableClock })

const hour = 3600
const me = (page: Page) => fetchIn(page, `${world.api.url}/me`)
const asAlice = { status: 200, body: { sub: 'alice' } }
const sessionOf = (page: Page) => page.evaluate(() => window.auth.session())
const silentAttempts = () =>
  authorizationsAt(world.as).filter(({ query }) => query.includes('prompt=none'))

/** A signed-in page that has neither a refresh token nor an access token of any use. */
const openSpent = async (context?: BrowserContext): Promise<Page> => {
  const page = await openAndSignIn(world, context)
  await spend(page)
  return page
}

/** The refresh token is dead, and the access token has expired. */
const spend = async (page: Page) => {
  world.as.revokeRefreshTokens()
  await shiftClock(page, hour)
}

describe('when the refresh token is dead', () => {
  test('all waiting requests go on with the tokens of a hidden frame (SI-01)', async () => {
    const page = await openAndSignIn(world)
    await me(page)
    world.as.revokeRefreshTokens()
    world.api.rejectCurrentTokens()
    const upload = { method: 'POST', body: 'x'.repeat(100_000) }
    const answers = await Promise.all([
      me(page),
      fetchIn(page, `${world.api.url}/orders`),
      fetchIn(page, `${world.api.url}/upload`, upload),
      fetchIn(page, '/api/me'),
    ])
    expect(answers.map(({ status }) => status)).toEqual([200, 200, 200, 200])
    expect(answers[2]?.body).toMatchObject({ size: 100_000 })
    expect(refreshesAt(world.as)).toMatchObject([{ status: 400 }])
    expect(silentAttempts()).toHaveLength(1)
    expect(await eventsOf(page, 'renewed')).toHaveLength(1)
    expect(await eventsOf(page, 'signed-out')).toEqual([])
    expect(await eventsOf(page, 'login-required')).toEqual([])
  })

  test('a server with a new signing key does it without the hint, and signs out without', async () => {
    const page = await openSpent()
    await world.as.rotateSigningKey()
    expect(await me(page)).toMatchObject(asAlice)
    const hinted = silentAttempts().map(({ query }) => query.includes('id_token_hint='))
    expect(hinted).toEqual([true, false])
    // The hint is a new one by now, until the server changes its key once more.
    await world.as.rotateSigningKey()
    await page.evaluate(() => {
      window.auth.logout({ returnTo: '/other' }).catch(() => {})
    })
    await page.click('button[name=logout]')
    await page.waitForURL(`${world.url}other`)
    const logout = world.as.requests.find(({ path }) => path === '/session/end')
    expect(logout?.query).not.toContain('id_token_hint=')
    expect(logout?.query).toContain('client_id=')
  })

  test('an expired token is renewed by it before the request goes out', async () => {
    const page = await openSpent()
    expect(await me(page)).toMatchObject(asAlice)
    expect(requestsTo(world.api, '/me')).toMatchObject([{ status: 200 }])
    expect(silentAttempts()).toHaveLength(1)
  })

  test('the page stays where it is, and its frame is gone (SI-01, SI-10)', async () => {
    const page = await openSpent()
    await page.evaluate(() => {
      Object.assign(window, { here: true })
      history.replaceState(null, '', '#/orders/1')
    })
    const inFrame: string[] = []
    const frames: string[] = []
    page.on('request', (request) => {
      if (request.frame() !== page.mainFrame()) inFrame.push(request.resourceType())
    })
    page.on('frameattached', () => frames.push('attached'))
    page.on('framedetached', () => frames.push('detached'))
    page.on('framenavigated', (frame) => {
      if (frame !== page.mainFrame()) frames.push(new URL(frame.url()).pathname)
    })
    const entries = await page.evaluate(() => history.length)
    await me(page)
    await expect.poll(() => frames).toEqual(['attached', '/tokenward/done.html', 'detached'])
    // Documents only: no script has been loaded, so the app has not started in the frame.
    expect(new Set(inFrame)).toEqual(new Set(['document']))
    expect(await page.locator('iframe').count()).toBe(0)
    expect(await page.evaluate(() => [history.length, location.hash, 'here' in window])).toEqual([
      entries,
      '#/orders/1',
      true,
    ])
  })

  test('the frame is hidden from sight, focus and assistive technology (SI-10)', async () => {
    const page = await openSpent()
    await page.evaluate(() => {
      const observer = new MutationObserver((changes) => {
        const added = changes.flatMap((change) => [...change.addedNodes])
        const frame = added.find((node) => node instanceof HTMLIFrameElement)
        if (!frame) return
        const { title, tabIndex, ariaHidden, offsetParent, src } = frame
        Object.assign(window, { seen: { title, tabIndex, ariaHidden, offsetParent, src } })
      })
      observer.observe(document.body, { childList: true })
    })
    await me(page)
    const seen = await page.evaluate(() => (window as unknown as { seen: { src: string } }).seen)
    expect(seen).toMatchObject({ tabIndex: -1, ariaHidden: 'true', offsetParent: null })
    expect(seen).toHaveProperty('title', expect.stringMatching(/\w/))
    // All that the page learns is an address of its own with a one-time ticket.
    expect(seen.src).toMatch(/^http:\/\/localhost:\d+\/tokenward\/silent\.html\?ticket=[\w-]+$/)
    const second = await fetchIn(page, seen.src)
    expect(second.status).toBe(403)
  })

  test('an answer without a refresh token is fine, and the next renewal is silent again', async () => {
    const page = await openSpent()
    expect(await me(page)).toMatchObject(asAlice)
    await shiftClock(page, 2 * hour)
    expect(await me(page)).toMatchObject(asAlice)
    await page.evaluate(() => window.auth.renew())
    // The dead refresh token was tried once, and never again.
    expect(refreshesAt(world.as)).toHaveLength(1)
    expect(silentAttempts()).toHaveLength(3)
  })

  test('a stopped worker knows that silently is the way (SI-01)', async () => {
    const page = await openSpent()
    expect(await me(page)).toMatchObject(asAlice)
    await stopWorkers(page)
    world.api.rejectCurrentTokens()
    expect(await me(page)).toMatchObject(asAlice)
    expect(refreshesAt(world.as)).toHaveLength(1)
    expect(silentAttempts()).toHaveLength(2)
  })

  test('five tabs with requests: one frame in one tab (SI-06)', async () => {
    const context = await world.newProfile()
    const first = await openAndSignIn(world, context)
    const others = await Promise.all([1, 2, 3, 4].map(() => openApp(context, world.url)))
    let frames = 0
    for (const page of [first, ...others]) page.on('frameattached', () => frames++)
    await spend(first)
    const answers = await Promise.all([first, ...others].flatMap((page) => [me(page), me(page)]))
    expect(answers.map(({ status }) => status)).toEqual(Array.from({ length: 10 }, () => 200))
    expect(frames).toBe(1)
    expect(silentAttempts()).toHaveLength(1)
  })
})

describe('when a refresh is no way', () => {
  test('a 401 of the token endpoint: silently, with the refresh token kept (RF-09)', async () => {
    const page = await openAndSignIn(world)
    await shiftClock(page, hour)
    const body = { error: 'invalid_client' }
    const grantType = 'refresh_token'
    world.as.setFault({ path: '/token', grantType, kind: 'status', status: 401, body, times: 1 })
    expect(await me(page)).toMatchObject(asAlice)
    expect(silentAttempts()).toHaveLength(1)
    await page.evaluate(() => window.auth.renew())
    expect(refreshesAt(world.as).map(({ status }) => status)).toEqual([401, 200])
    expect(silentAttempts()).toHaveLength(1)
  })

  test('no refresh token from the start: silently (SI-01)', async () => {
    world.useWorker("scope: 'openid profile', authorizationParams: {}")
    const page = await openAndSignIn(world)
    await shiftClock(page, hour)
    expect(await me(page)).toMatchObject(asAlice)
    await page.evaluate(() => window.auth.renew())
    expect(refreshesAt(world.as)).toEqual([])
    expect(silentAttempts()).toHaveLength(2)
  })

  test('the answer of a refresh was lost: silently first, where that has worked (RF-07)', async () => {
    const remembering = await startWorld({
      beforeWorker: movableClock,
      server: { consentRemembered: true },
    })
    try {
      const { as, api } = remembering
      const page = await openAndSignIn(remembering)
      await page.evaluate(() => window.auth.checkSession())
      await shiftClock(page, hour)
      // On a connection that was used before, the browser itself would send it again.
      await as.stop()
      await as.start()
      as.setFault({ path: '/token', grantType: 'refresh_token', kind: 'drop-after' })
      expect(await fetchIn(page, `${api.url}/me`)).toEqual({ error: 'TypeError' })
      expect(refreshesAt(as)).toHaveLength(1)
      as.setFault(undefined)
      as.clearRequests()
      await shiftClock(page, hour + 120)
      expect(await fetchIn(page, `${api.url}/me`)).toMatchObject(asAlice)
      // Sending the spent token again would have cost the grant.
      expect([authorizationsAt(as).length, refreshesAt(as).length]).toEqual([1, 0])
      expect(await page.evaluate(() => window.auth.session())).toMatchObject({ state: 'fresh' })
    } finally {
      await remembering.close()
    }
  })
})

describe('a definitive no', () => {
  const ended = { type: 'signed-out', reason: 'ended', code: 'login_required' }

  test("login_required: every tab is told once, the request gets the API's own 401 (SE-12)", async () => {
    const context = await world.newProfile()
    const pages = [await openAndSignIn(world, context), await openApp(context, world.url)] as const
    await me(pages[0])
    world.as.revokeRefreshTokens()
    world.as.endSessions()
    world.api.rejectCurrentTokens()
    const answers = await Promise.all(pages.flatMap((page) => [me(page), me(page)]))
    for (const answer of answers) {
      expect(answer).toEqual({ status: 401, body: { status: 401, detail: 'invalid_token' } })
    }
    for (const page of pages) {
      await page.waitForFunction(() => window.events.some(({ type }) => type === 'signed-out'))
      expect(await eventsOf(page, 'signed-out')).toEqual([ended])
      expect(await sessionOf(page)).toBe(undefined)
    }
    expect(silentAttempts()).toHaveLength(1)
    // From here on it is as for anybody who is not signed in.
    expect(await me(pages[0])).toMatchObject({ status: 401, body: { detail: 'A token is needed' } })
    expect(silentAttempts()).toHaveLength(1)
    await signIn(pages[1])
    expect(await me(pages[0])).toMatchObject(asAlice)
    expect((await sessionOf(pages[0]))?.state).toBe('fresh')
  })

  test('login_required for an expired token: the API says what it gets without (IN-12)', async () => {
    const page = await openSpent()
    world.as.endSessions()
    expect(await me(page)).toMatchObject({ status: 401, body: { detail: 'A token is needed' } })
    expect(requestsTo(world.api, '/me')).toMatchObject([{ authorization: 'none' }])
    expect(await eventsOf(page, 'signed-out')).toEqual([ended])
  })

  test('consent_required (SI-05)', async () => {
    const page = await openAndSignIn(world)
    await shiftClock(page, hour)
    world.as.forgetGrants()
    expect(await me(page)).toMatchObject({ status: 401 })
    expect(await eventsOf(page, 'signed-out')).toEqual([{ ...ended, code: 'consent_required' }])
    expect(silentAttempts()).toHaveLength(1)
  })

  test('is not believed while the refresh token may be good (SI-05, RF-09)', async () => {
    const page = await openAndSignIn(world)
    await shiftClock(page, hour)
    world.as.endSessions()
    const body = { error: 'invalid_client' }
    world.as.setFault({ path: '/token', kind: 'status', status: 401, body, times: 1 })
    expect(await me(page)).toEqual({ error: 'TypeError' })
    expect(await sessionOf(page)).toMatchObject({ state: 'stale' })
    expect(await eventsOf(page, 'login-required')).toHaveLength(1)
    // Offline access outlives the session at the server; after the pause it is tried again.
    await shiftClock(page, hour + 120)
    expect(await me(page)).toMatchObject(asAlice)
    expect(await eventsOf(page, 'signed-out')).toEqual([])
  })
})

describe('with an authorization endpoint that can be told what to answer', () => {
  /** Stands before the real one: sends the browser on, or right back with an answer. */
  const startDoor = async () => {
    const metadata = await (
      await fetch(`${world.as.issuer}/.well-known/openid-configuration`)
    ).json()
    let silentAnswer: ((params: URLSearchParams) => string) | undefined
    const server = createServer((request, response) => {
      const { searchParams } = new URL(request.url ?? '', world.as.issuer)
      const silent = searchParams.get('prompt') === 'none'
      const location =
        silent && silentAnswer
          ? silentAnswer(searchParams)
          : `${metadata.authorization_endpoint}?${searchParams}`
      response.writeHead(303, { location }).end()
    })
    await listen(server, 0, 'localhost')
    world.usePolicy(anyServer)
    const endpoint = `${originOf(server, 'localhost')}/auth`
    world.useWorker(`issuer: ${JSON.stringify({ ...metadata, authorization_endpoint: endpoint })}`)
    return {
      close: () => close(server),
      answerSilently: (answer: (params: URLSearchParams) => string) => {
        silentAnswer = answer
      },
      refuse: (error: string) => {
        silentAnswer = (params) => {
          const answer = { error, state: params.get('state') ?? '', iss: world.as.issuer }
          return `${params.get('redirect_uri')}?${new URLSearchParams(answer)}`
        }
      },
      toServer: (params: URLSearchParams) => `${metadata.authorization_endpoint}?${params}`,
    }
  }
  let door: Awaited<ReturnType<typeof startDoor>>
  afterEach(() => door.close())

  test.each(['interaction_required', 'account_selection_required'])(
    '%s ends the session (SI-05)',
    async (error) => {
      door = await startDoor()
      const page = await openSpent()
      door.refuse(error)
      expect(await me(page)).toMatchObject({ status: 401 })
      expect(await eventsOf(page, 'signed-out')).toEqual([
        { type: 'signed-out', reason: 'ended', code: error },
      ])
    },
  )

  test.each(['server_error', 'temporarily_unavailable', 'invalid_request'])(
    '%s leaves the session stale (SI-05)',
    async (error) => {
      door = await startDoor()
      const page = await openSpent()
      door.refuse(error)
      expect(await me(page)).toEqual({ error: 'TypeError' })
      expect(await sessionOf(page)).toMatchObject({ state: 'stale' })
      expect(await eventsOf(page, 'signed-out')).toEqual([])
      expect(await eventsOf(page, 'login-required')).toMatchObject([{ error }])
    },
  )

  test('checkSession gives the code of the refusal, or undefined (SI-05)', async () => {
    door = await startDoor()
    const page = await openAndSignIn(world)
    const check = () =>
      page.evaluate(() =>
        window.auth.checkSession().then(
          (session) => session?.claims['sub'] ?? 'nobody',
          (error) => error.code,
        ),
      )
    expect(await check()).toBe('alice')
    for (const error of [
      'consent_required',
      'interaction_required',
      'account_selection_required',
    ]) {
      door.refuse(error)
      expect(await check()).toBe(error)
    }
    door.refuse('login_required')
    expect(await check()).toBe('nobody')
    // It never ends a session.
    expect(await sessionOf(page)).toMatchObject({ state: 'fresh' })
    expect(await me(page)).toMatchObject(asAlice)
  })

  test('another user: the session ends, and nothing is sent as the new one (SI-07, SE-07)', async () => {
    door = await startDoor()
    const context = await world.newProfile()
    const page = await openAndSignIn(world, context)
    await me(page)
    // Meanwhile bob signs in at the server, in this browser, and the server ignores our hint.
    world.as.endSessions()
    world.as.setAutoSignIn('bob')
    const visitor = await context.newPage()
    const query = new URLSearchParams({
      client_id: world.clientId,
      response_type: 'code',
      scope: 'openid profile',
      redirect_uri: `${world.url}tokenward/callback.html`,
      code_challenge: 'E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM',
      code_challenge_method: 'S256',
    })
    await visitor.goto(`${world.as.issuer}/auth?${query}`)
    await visitor.close()
    door.answerSilently((params) => {
      params.delete('id_token_hint')
      return door.toServer(params)
    })
    world.as.revokeRefreshTokens()
    world.api.rejectCurrentTokens()
    world.api.clearRequests()
    const body = 'alice wrote this'
    const answers = await Promise.all([
      me(page),
      fetchIn(page, `${world.api.url}/upload`, { method: 'POST', body }),
    ])
    expect(answers.map(({ status }) => status)).not.toContain(200)
    await page.waitForFunction(() => window.events.some(({ type }) => type === 'signed-out'))
    expect(await eventsOf(page, 'signed-out')).toEqual([
      { type: 'signed-out', reason: 'user_changed' },
    ])
    expect(await sessionOf(page)).toBe(undefined)
    const sent = world.api.requests.filter(({ method }) => method !== 'OPTIONS')
    expect(sent.every(({ status }) => status === 401)).toBe(true)
    // Bob may now sign in as himself.
    await signIn(page)
    expect(await me(page)).toMatchObject({ status: 200, body: { sub: 'bob' } })
  })
})

describe('when there is no answer', () => {
  test('timeout: the session is stale, the pages are told once (SI-04)', async () => {
    world.useWorker(soonGivenUp(1))
    const page = await openSpent()
    world.as.setFault({ path: '/auth', kind: 'hang' })
    const answers = await Promise.all(Array.from({ length: 5 }, () => me(page)))
    for (const answer of answers) expect(answer).toEqual({ error: 'TypeError' })
    expect(await me(page)).toEqual({ error: 'TypeError' })
    expect(requestsTo(world.api, '/me')).toEqual([])
    expect(await page.locator('iframe').count()).toBe(0)
    expect(await sessionOf(page)).toMatchObject({ state: 'stale', claims: { sub: 'alice' } })
    expect(await eventsOf(page, 'login-required')).toMatchObject([{ error: 'timeout' }])
    expect(await eventsOf(page, 'signed-out')).toEqual([])
    world.as.setFault(undefined)
    // Time has passed, whatever pause there may be after failures is over.
    await shiftClock(page, 2 * hour)
    expect(await me(page)).toMatchObject(asAlice)
    expect(await sessionOf(page)).toMatchObject({ state: 'fresh' })
  })

  test('a page whose policy forbids the frame: silent_login_blocked (SI-01)', async () => {
    world.usePolicy({ page: { 'frame-src': "'self'" } })
    const page = await openSpent()
    expect(await me(page)).toEqual({ error: 'TypeError' })
    expect(await eventsOf(page, 'login-required')).toMatchObject([
      { error: 'silent_login_blocked' },
    ])
    expect(await page.locator('iframe').count()).toBe(0)
    expect(await sessionOf(page)).toMatchObject({ state: 'stale' })
  })

  test('offline: nothing is tried, nobody is told to sign in (SI-09)', async () => {
    const page = await openSpent()
    await page.context().setOffline(true)
    expect(await me(page)).toEqual({ error: 'TypeError' })
    expect(await sessionOf(page)).toMatchObject({ state: 'stale' })
    expect(await eventsOf(page, 'signed-out')).toEqual([])
    await page.context().setOffline(false)
    expect(await me(page)).toMatchObject(asAlice)
  })
})

describe('what a timeout says (SI-04)', () => {
  const isolation = {
    'cross-origin-opener-policy': 'same-origin',
    'cross-origin-embedder-policy': 'require-corp',
  }
  const whyNot = async (page: Page) => {
    const error = await page.evaluate(() =>
      window.auth.checkSession().then(
        () => 'signed in',
        ({ code, message }) => `${code}: ${message}`,
      ),
    )
    expect(await page.locator('iframe').count()).toBe(0)
    return error
  }
  const open = async () => {
    world.useWorker(soonGivenUp(1))
    return await openApp(await world.newProfile(), world.url)
  }

  test('the server did not answer', async () => {
    const page = await open()
    world.as.setFault({ path: '/auth', kind: 'hang' })
    expect(await whyNot(page)).toMatch(/^timeout: .*did not answer/)
  })

  test('the server showed a page, or forbids frames', async () => {
    const page = await open()
    world.as.setFault({ path: '/auth', kind: 'html', headers: { 'x-frame-options': 'DENY' } })
    expect(await whyNot(page)).toMatch(/^timeout: .*showed a page.*X-Frame-Options/)
    world.as.setFault({ path: '/auth', kind: 'html' })
    expect(await whyNot(page)).toMatch(/^timeout: .*showed a page.*its log says why/)
  })

  test('the page is cross-origin isolated, and the server not made for that', async () => {
    world.usePolicy({ more: isolation })
    const page = await open()
    expect(await page.evaluate(() => crossOriginIsolated)).toBe(true)
    expect(await whyNot(page)).toMatch(/^timeout: .*Cross-Origin-Resource-Policy/)
  })

  test('the frame never got to the worker: something in the browser stopped it', async () => {
    const page = await open()
    // A blocker that puts frames into a sandbox keeps them from the worker.
    await page.evaluate(() => {
      const create = document.createElement.bind(document) as typeof document.createElement
      document.createElement = ((name: string) => {
        const element = create(name)
        if (name === 'iframe') element.setAttribute('sandbox', 'allow-scripts')
        return element
      }) as typeof document.createElement
    })
    expect(await whyNot(page)).toMatch(/^timeout: .*never got to the worker.*ad blocker/)
  })
})

describe('which page does it', () => {
  /** Resolves with the index of the page that gets the frame. */
  const frameIn = (pages: readonly Page[]) =>
    Promise.race(pages.map((page, index) => page.waitForEvent('frameattached').then(() => index)))

  test('the page with the frame is closed: the next one does it (SI-06)', async () => {
    const context = await world.newProfile()
    const pages = [await openAndSignIn(world, context)]
    pages.push(await openApp(context, world.url))
    const asking = await openApp(context, world.url)
    pages.push(asking)
    await spend(asking)
    world.as.setFault({ path: '/auth', kind: 'hang', times: 1 })
    // The first two may do it; the third waits for the answer, and says that it is hidden.
    await asking.evaluate(() =>
      Object.defineProperty(document, 'visibilityState', { get: () => 'hidden' }),
    )
    const chosen = frameIn(pages)
    const answer = me(asking)
    const first = await chosen
    expect(first).not.toBe(2)
    await world.as.waitForRequest(({ fault }) => fault === 'hang')
    await pages[first]?.close()
    expect(await answer).toMatchObject(asAlice)
    expect(silentAttempts()).toHaveLength(2)
  })

  test('a visible page comes before hidden ones (SI-06)', async () => {
    const context = await world.newProfile()
    const pages = [await openAndSignIn(world, context)]
    for (let i = 0; i < 3; i++) pages.push(await openApp(context, world.url))
    for (const page of [pages[0], pages[2], pages[3]]) {
      await page?.evaluate(() =>
        Object.defineProperty(document, 'visibilityState', { get: () => 'hidden' }),
      )
    }
    await spend(pages[3] as Page)
    const chosen = frameIn(pages)
    expect(await me(pages[3] as Page)).toMatchObject(asAlice)
    expect(await chosen).toBe(1)
  })

  test('where all pages are hidden, one of them does it (SI-06)', async () => {
    const page = await openSpent()
    await page.evaluate(() =>
      Object.defineProperty(document, 'visibilityState', { get: () => 'hidden' }),
    )
    expect(await me(page)).toMatchObject(asAlice)
  })

  test('a page of the site without our script costs little time and no answer (SI-06)', async () => {
    world.site.addFile('/plain.html', { body: '<h1>Imprint</h1>' })
    const context = await world.newProfile()
    const page = await openSpent(context)
    const plain = await context.newPage()
    await plain.goto(`${world.url}plain.html`)
    const chosen = frameIn([page, plain])
    expect(await me(page)).toMatchObject(asAlice)
    expect(await chosen).toBe(0)
  })

  test('no page is left but one without our script: stale, until there is one (SI-06)', async () => {
    world.site.addFile('/plain.html', { body: '<h1>Imprint</h1>' })
    const context = await world.newProfile()
    const page = await openSpent(context)
    await page.goto(`${world.url}plain.html`)
    expect(await me(page)).toEqual({ error: 'TypeError' })
    expect(requestsTo(world.api, '/me')).toEqual([])
    expect(silentAttempts()).toEqual([])
    await page.goto(world.url)
    await page.evaluate(() => window.auth.ready)
    expect(await sessionOf(page)).toMatchObject({ state: 'stale' })
    await shiftClock(page, hour + 120)
    expect(await me(page)).toMatchObject(asAlice)
  })
})

describe('a sign-in in another tab', () => {
  test('while a refresh is under way: both tabs go on (RF-11)', async () => {
    const context = await world.newProfile()
    const page = await openAndSignIn(world, context)
    const other = await openApp(context, world.url)
    await shiftClock(page, hour)
    const grantType = 'refresh_token'
    world.as.setFault({ path: '/token', grantType, kind: 'delay', ms: 3000, times: 1 })
    const waiting = me(page)
    await world.as.waitForRequest((request) => request.grantType === grantType)
    await signIn(other)
    const answer = await waiting
    expect(answer).toMatchObject(asAlice)
    expect(await me(page)).toMatchObject(asAlice)
    expect(await me(other)).toMatchObject(asAlice)
    await other.evaluate(() => window.auth.renew())
    expect(await eventsOf(page, 'signed-out')).toEqual([])
    // Tokens of one user can share a grant: nothing has been revoked.
    expect(world.as.requests.filter(({ path }) => path === '/revoke')).toEqual([])
  })

  test('while a hidden frame is under way: both tabs go on (RF-11)', async () => {
    world.useWorker(soonGivenUp(2))
    const context = await world.newProfile()
    const page = await openSpent(context)
    const other = await openApp(context, world.url)
    world.as.setFault({ path: '/auth', kind: 'hang', times: 1 })
    const waiting = me(page)
    await world.as.waitForRequest(({ fault }) => fault === 'hang')
    await signIn(other)
    expect(await me(other)).toMatchObject(asAlice)
    expect(await waiting).toMatchObject(asAlice)
    expect(await eventsOf(page, 'signed-out')).toEqual([])
    expect(await eventsOf(page, 'login-required')).toEqual([])
  })

  test('by another user: waiting requests are not sent as the new one (SE-07)', async () => {
    const context = await world.newProfile()
    const page = await openAndSignIn(world, context)
    const other = await openApp(context, world.url)
    await shiftClock(page, hour)
    const grantType = 'refresh_token'
    world.as.setFault({ path: '/token', grantType, kind: 'delay', ms: 3000, times: 1 })
    const waiting = me(page)
    await world.as.waitForRequest((request) => request.grantType === grantType)
    world.as.endSessions()
    world.as.setAutoSignIn('bob')
    await signIn(other)
    expect(await waiting).toEqual({ error: 'TypeError' })
    expect(requestsTo(world.api, '/me')).toEqual([])
    expect(await me(page)).toMatchObject({ status: 200, body: { sub: 'bob' } })
    expect(await eventsOf(page, 'signed-out')).toEqual([
      { type: 'signed-out', reason: 'user_changed' },
    ])
  })
  test('by another user, before a renewal begins: nothing is sent as the new one (SE-07)', async () => {
    const context = await world.newProfile()
    const page = await openAndSignIn(world, context)
    const other = await openApp(context, world.url)
    await shiftClock(page, hour)
    // As if another worker of this origin had a renewal under way.
    const held = page.evaluate(
      (name) =>
        navigator.locks.request(
          name,
          () =>
            new Promise<void>((release) => {
              Object.assign(window, { release })
            }),
        ),
      `tokenward ${world.as.issuer} ${world.clientId} renew`,
    )
    await page.waitForFunction(() => 'release' in window)
    const waiting = me(page)
    await page.waitForFunction(async () => (await navigator.locks.query()).pending?.length === 1)
    world.as.endSessions()
    world.as.setAutoSignIn('bob')
    await signIn(other)
    await page.evaluate(() => (window as unknown as { release(): void }).release())
    await held
    expect(await waiting).toEqual({ error: 'TypeError' })
    expect(requestsTo(world.api, '/me')).toEqual([])
  })
})
